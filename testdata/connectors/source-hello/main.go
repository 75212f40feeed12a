// Command source-hello is a small Airbyte source: it reads a CSV file and speaks the Airbyte protocol. It is one
// folder that uses only Go's standard library, as a user's connector repository would be.
package main

import (
	"bufio"
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
	exe, err := os.Executable()
	if err != nil {
		fmt.Fprintln(os.Stderr, "source-hello:", err)
		os.Exit(1)
	}
	os.Exit(run(os.Args[1:], os.Stdout, filepath.Dir(exe), time.Now))
}

// message is an AirbyteMessage or a part of one.
type message map[string]any

// source is one run of the connector.
type source struct {
	out    *bufio.Writer
	home   string // where the CSV that is shipped with the connector lies
	now    func() time.Time
	writes error // the first error in writing to out
}

// configError is a failure that the person who configured the source can mend.
type configError struct{ error }

func run(args []string, out io.Writer, home string, now func() time.Time) int {
	s := &source{out: bufio.NewWriter(out), home: home, now: now}
	err := s.command(args)
	if err != nil {
		s.trace(err)
	}
	if flushed := s.out.Flush(); err != nil || s.writes != nil || flushed != nil {
		return 1
	}
	return 0
}

func (s *source) command(args []string) error {
	if len(args) == 0 {
		return errors.New("no command: want spec, check, discover or read")
	}
	flags := flag.NewFlagSet(args[0], flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	configFile := flags.String("config", "", "the configuration, a JSON file")
	catalogFile := flags.String("catalog", "", "the configured catalog, a JSON file")
	stateFile := flags.String("state", "", "the states of the last sync, a JSON file")
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	if args[0] == "spec" {
		s.emit("SPEC", "spec", specification)
		return nil
	}
	var c config
	if err := readJSON(*configFile, &c); err != nil {
		return err
	}
	switch args[0] {
	case "check":
		s.check(c)
		return nil
	case "discover":
		t, err := s.table(c)
		if err != nil {
			return err
		}
		s.emit("CATALOG", "catalog", message{"streams": []any{t.stream()}})
		return nil
	case "read":
		return s.read(c, *catalogFile, *stateFile)
	}
	return fmt.Errorf("unknown command %q: want spec, check, discover or read", args[0])
}

// config is what a user fills in.
type config struct {
	File   string `json:"file"`
	Limit  int    `json:"limit"`
	APIKey string `json:"api_key"`
}

var specification = message{
	"protocol_version":    "0.3.2",
	"documentationUrl":    "https://github.com/airbyte-publish/airbyte-publish/tree/main/testdata/connectors/source-hello",
	"supportsIncremental": true,
	"connectionSpecification": message{
		"$schema":              "http://json-schema.org/draft-07/schema#",
		"title":                "Hello Source Spec",
		"type":                 "object",
		"required":             []string{"api_key"},
		"additionalProperties": true,
		"properties": message{
			"file": message{"type": "string", "title": "File", "order": 0, "default": "hello.csv",
				"description": "A CSV file with a header line: an absolute path, or a name beside the connector."},
			"limit": message{"type": "integer", "title": "Limit", "order": 1, "minimum": 0, "default": 0,
				"description": "The most records to read of a stream in one sync; 0 reads all."},
			"api_key": message{"type": "string", "title": "API key", "order": 2, "airbyte_secret": true,
				"description": "Any text: it stands for the secret that most sources need."},
		},
	},
}

// table checks the configuration and loads what it points to.
func (s *source) table(c config) (*table, error) {
	if c.APIKey == "" {
		return nil, configError{errors.New("api_key is empty")}
	}
	if c.Limit < 0 {
		return nil, configError{fmt.Errorf("limit is %d, want 0 or more", c.Limit)}
	}
	path := c.File
	if path == "" {
		path = "hello.csv"
	}
	if !filepath.IsAbs(path) {
		path = filepath.Join(s.home, path)
	}
	return loadTable(path)
}

// check never fails by itself: a configuration that doesn't work is an answer.
func (s *source) check(c config) {
	if _, err := s.table(c); err != nil {
		s.emit("CONNECTION_STATUS", "connectionStatus", message{"status": "FAILED", "message": err.Error()})
		return
	}
	s.emit("CONNECTION_STATUS", "connectionStatus", message{"status": "SUCCEEDED"})
}

func (s *source) log(format string, args ...any) {
	s.emit("LOG", "log", message{"level": "INFO", "message": fmt.Sprintf(format, args...)})
}

func (s *source) trace(err error) {
	kind := "system_error"
	if _, ok := errors.AsType[configError](err); ok {
		kind = "config_error"
	}
	s.emit("TRACE", "trace", message{"type": "ERROR", "emitted_at": s.now().UnixMilli(), "error": message{
		"message": err.Error(), "internal_message": fmt.Sprintf("%T: %v", err, err), "failure_type": kind}})
}

// emit writes one message. Its field is the part of AirbyteMessage that goes with the type.
func (s *source) emit(kind, field string, body any) {
	line, err := json.Marshal(message{"type": kind, field: body})
	if err == nil {
		_, err = s.out.Write(append(line, '\n'))
	}
	if s.writes == nil {
		s.writes = err
	}
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
