// Command applets is the two programs besides a shell that Airbyte's wrapper around a connector calls: sleep and mv.
// It acts as the one it is called by.
package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

func main() {
	applet := filepath.Base(os.Args[0])
	if err := run(applet, os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", applet, err)
		os.Exit(1)
	}
}

func run(applet string, args []string) error {
	switch applet {
	case "sleep":
		return sleep(args)
	case "mv":
		return mv(args)
	}
	return errors.New("call this program as sleep or mv")
}

// sleep takes seconds, which may have a fraction, as every sleep does.
func sleep(args []string) error {
	if len(args) != 1 {
		return errors.New("usage: sleep SECONDS")
	}
	seconds, err := strconv.ParseFloat(args[0], 64)
	if err != nil || seconds < 0 || seconds > 1e9 {
		return fmt.Errorf("%q is no number of seconds", args[0])
	}
	time.Sleep(time.Duration(seconds * float64(time.Second)))
	return nil
}

// mv renames within one file system; the last argument may be a folder.
func mv(args []string) error {
	if len(args) > 0 && args[0] == "-f" {
		args = args[1:]
	}
	if len(args) != 2 {
		return errors.New("usage: mv [-f] FROM TO")
	}
	from, to := args[0], args[1]
	if info, err := os.Stat(to); err == nil && info.IsDir() {
		to = filepath.Join(to, filepath.Base(from))
	}
	return os.Rename(from, to)
}
