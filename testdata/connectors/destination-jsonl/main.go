// Command destination-jsonl is a small Airbyte destination: it writes each stream into a file of JSON lines. It is one
// folder that uses only Go's standard library, as a user's connector repository would be.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

func main() {
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, time.Now))
}

// object is a JSON object that this connector writes.
type object map[string]any

// configError is a failure that the person who configured the destination can mend.
type configError struct{ error }

func run(args []string, in io.Reader, out io.Writer, now func() time.Time) int {
	err := command(args, in, out)
	if err == nil {
		return 0
	}
	kind := "system_error"
	if _, ok := errors.AsType[configError](err); ok {
		kind = "config_error"
	}
	trace := object{"type": "ERROR", "emitted_at": now().UnixMilli(),
		"error": object{"message": err.Error(), "failure_type": kind}}
	if err := emit(out, object{"type": "TRACE", "trace": trace}); err != nil {
		fmt.Fprintln(os.Stderr, "destination-jsonl:", err)
	}
	return 1
}

func command(args []string, in io.Reader, out io.Writer) error {
	if len(args) == 0 {
		return errors.New("no command: want spec, check or write")
	}
	flags := flag.NewFlagSet(args[0], flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	configFile := flags.String("config", "", "the configuration, a JSON file")
	catalogFile := flags.String("catalog", "", "the configured catalog, a JSON file")
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	switch args[0] {
	case "spec":
		return emit(out, object{"type": "SPEC", "spec": specification})
	case "check":
		var c config
		if err := readJSON(*configFile, &c); err != nil {
			return err
		}
		return emit(out, object{"type": "CONNECTION_STATUS", "connectionStatus": c.check()})
	case "write":
		var (
			c    config
			want catalog
		)
		if err := errors.Join(readJSON(*configFile, &c), readJSON(*catalogFile, &want)); err != nil {
			return err
		}
		return write(c, want, in, out)
	}
	return fmt.Errorf("unknown command %q: want spec, check or write", args[0])
}

// config is what a user fills in.
type config struct {
	Folder string `json:"folder"`
}

var specification = object{
	"protocol_version":                 "0.3.2",
	"documentationUrl":                 "https://github.com/airbyte-publish/airbyte-publish/tree/main/testdata/connectors/destination-jsonl",
	"supportsIncremental":              true,
	"supported_destination_sync_modes": []string{"append", "overwrite"},
	"connectionSpecification": object{
		"$schema":              "http://json-schema.org/draft-07/schema#",
		"title":                "JSON Lines Destination Spec",
		"type":                 "object",
		"required":             []string{"folder"},
		"additionalProperties": true,
		"properties": object{
			"folder": object{"type": "string", "title": "Folder", "examples": []string{"/local/out"},
				"description": "The absolute path of the folder to write into; it is made if it is not there."},
		},
	},
}

// check answers whether files can be written in the folder, by writing one.
func (c config) check() object {
	root, err := c.open()
	if err == nil {
		defer root.Close()
		const probe = ".airbyte-check"
		if err = root.WriteFile(probe, nil, 0o644); err == nil {
			err = root.Remove(probe)
		}
	}
	if err != nil {
		return object{"status": "FAILED", "message": err.Error()}
	}
	return object{"status": "SUCCEEDED"}
}

// open makes and opens the folder. Nothing is ever written outside of it, whatever a stream is called.
func (c config) open() (*os.Root, error) {
	if !filepath.IsAbs(c.Folder) {
		return nil, configError{fmt.Errorf("folder is %q, want an absolute path", c.Folder)}
	}
	if err := os.MkdirAll(c.Folder, 0o755); err != nil {
		return nil, configError{err}
	}
	return os.OpenRoot(c.Folder)
}

func emit(out io.Writer, m any) error {
	line, err := json.Marshal(m)
	if err != nil {
		return err
	}
	_, err = out.Write(append(line, '\n'))
	return err
}

func readJSON(path string, into any) error {
	if path == "" {
		return errors.New("a file that this command needs was not named: see --config and --catalog")
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, into); err != nil {
		return configError{fmt.Errorf("%s: %w", filepath.Base(path), err)}
	}
	return nil
}
