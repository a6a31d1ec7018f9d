package testbed

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// wantedMaps is what common distributions give: enough for a program that fills a machine of 4 GiB.
const wantedMaps = 1 << 20

// allowMaps raises the host's limit on the mappings of one process, where it is lower than wantedMaps. User-Mode
// Linux maps each page of a program by itself, so Linux's own default of 65530 kills programs over 256 MiB.
func allowMaps(sysctl string) error {
	text, err := os.ReadFile(sysctl)
	if err != nil {
		return err
	}
	have, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return fmt.Errorf("read %s: %w", sysctl, err)
	}
	if have >= wantedMaps {
		return nil
	}
	if err := os.WriteFile(sysctl, []byte(strconv.Itoa(wantedMaps)), 0); err != nil {
		return fmt.Errorf("raise vm.max_map_count from %d to %d, which a test machine needs: %w", have, wantedMaps, err)
	}
	return nil
}
