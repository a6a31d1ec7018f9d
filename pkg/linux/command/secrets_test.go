package command_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/datastore-csi/datastore-csi/pkg/linux/command"
)

const canary = "s3cret-canary"

// noCanary fails where anything of an error tells the secret.
func noCanary(t *testing.T, err error) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	texts := []string{err.Error(), fmt.Sprintf("%+v", err), fmt.Sprintf("%#v", err)}
	var e *command.Error
	if errors.As(err, &e) {
		texts = append(texts, fmt.Sprintf("%+v", *e), fmt.Sprintf("%#v", *e))
	}
	for _, text := range texts {
		if strings.Contains(text, canary) || strings.Contains(text, canary[:8]) {
			t.Errorf("the secret is shown: %q", text)
		}
	}
}

func TestSecretsAreKeptOutOfEveryError(t *testing.T) {
	echo := tool(t, `cat; echo "bad: $(cat $0.in 2>/dev/null) $1 $SECRET" >&2; echo `+canary+canary+` >&2; exit 1`)
	for name, c := range map[string]command.Cmd{
		"echoed from stdin":            {Tool: tool(t, `cat >&2; exit 1`), Stdin: []byte("user\n" + canary + "\n")},
		"a part of a line of stdin":    {Tool: tool(t, `cat >&2; exit 1`), Stdin: []byte("key=" + canary), Redact: []string{canary}},
		"several lines of stdin":       {Tool: tool(t, `sort >&2; exit 1`), Stdin: []byte(canary + "1\r\n" + canary + "2")},
		"in an argument":               {Tool: echo, Args: []string{"--password=" + canary}, Redact: []string{canary}},
		"in the environment":           {Tool: echo, Env: []string{"SECRET=" + canary}, Redact: []string{"", canary}},
		"on either stream":             {Tool: tool(t, `echo `+canary+`; exit 1`), Redact: []string{canary}, Combined: true},
		"overlapping another secret":   {Tool: echo, Redact: []string{canary[4:], canary[:6], canary}},
		"broken by control characters": {Tool: tool(t, `printf 's3cret\0\n\t-canary\n' >&2; exit 1`), Redact: []string{"s3cret -canary", canary}},
		"cut at the bound":             {Tool: tool(t, `printf 'xxxxxxxxxx`+canary+`' >&2; exit 1`), Redact: []string{canary}, MaxOutput: 20},
		"in output that is cut short":  {Tool: tool(t, `seq 1 100; echo `+canary+` >&2`), Redact: []string{canary}, MaxOutput: 50},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := command.New(command.Config{}).Run(t.Context(), c)
			noCanary(t, err)
		})
	}
	t.Run("when the time is up", func(t *testing.T) {
		ready := fifo(t)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		opened := make(chan struct{})
		go func() {
			defer close(opened)
			readPID(t, ready)
			cancel()
		}()
		_, err := command.New(command.Config{}).Run(ctx, command.Cmd{
			Tool: tool(t, "cat >&2; echo 1 >"+ready+"; sleep 100"), Args: []string{canary}, Stdin: []byte(canary), Redact: []string{canary},
		})
		<-opened
		noCanary(t, err)
	})
}
