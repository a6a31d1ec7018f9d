package lvm

import (
	"errors"
	"strings"

	"github.com/datastore-csi/datastore-csi/pkg/linux/command"
)

func asCommand(err error) (*command.Error, bool) {
	var e *command.Error
	ok := errors.As(err, &e)
	return e, ok
}

// failedItself tells whether lvm ran and said no, rather than that it did not run or was killed.
func failedItself(err error) bool {
	_, exited := command.ExitCode(err)
	return exited
}

// parseSystemID reads `lvm systemid`: "  system ID: NAME", with nothing behind the colon where there is none.
func parseSystemID(out []byte) string {
	_, id, _ := strings.Cut(string(out), ":")
	return strings.TrimSpace(id)
}
