// Command source-numbers is a small Airbyte source with a Dockerfile of several stages: it counts.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"time"
)

// version is set when the image is built.
var version = "dev"

func main() {
	out := bufio.NewWriter(os.Stdout)
	err := run(os.Args[1:], json.NewEncoder(out), os.Getenv("NUMBERS_VERBOSE") != "")
	if err := errors.Join(err, out.Flush()); err != nil {
		fmt.Fprintln(os.Stderr, "source-numbers:", err)
		os.Exit(1)
	}
}

// message is an AirbyteMessage or a part of one.
type message map[string]any

// config is what a user fills in.
type config struct {
	Count *int `json:"count"`
}

func run(args []string, out *json.Encoder, verbose bool) error {
	if len(args) == 0 {
		return errors.New("no command: want spec, check, discover or read")
	}
	flags := flag.NewFlagSet(args[0], flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	configFile := flags.String("config", "", "the configuration, a JSON file")
	flags.String("catalog", "", "the configured catalog, which can only be the one stream")
	flags.String("state", "", "ignored: every sync is a full refresh")
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	if verbose {
		text := fmt.Sprintf("source-numbers %s: %s", version, args[0])
		if err := out.Encode(message{"type": "LOG", "log": message{"level": "DEBUG", "message": text}}); err != nil {
			return err
		}
	}
	switch args[0] {
	case "spec":
		return out.Encode(message{"type": "SPEC", "spec": specification})
	case "discover":
		return out.Encode(message{"type": "CATALOG", "catalog": message{"streams": []message{stream}}})
	case "check":
		status := message{"status": "SUCCEEDED"}
		if _, err := count(*configFile); err != nil {
			status = message{"status": "FAILED", "message": err.Error()}
		}
		return out.Encode(message{"type": "CONNECTION_STATUS", "connectionStatus": status})
	case "read":
		n, err := count(*configFile)
		if err != nil {
			return err
		}
		return read(out, n)
	}
	return fmt.Errorf("unknown command %q: want spec, check, discover or read", args[0])
}

var specification = message{
	"documentationUrl": "https://github.com/airbyte-publish/airbyte-publish/tree/main/testdata/connectors/source-go-docker",
	"connectionSpecification": message{
		"$schema":  "http://json-schema.org/draft-07/schema#",
		"title":    "Numbers Source Spec",
		"type":     "object",
		"required": []string{"count"},
		"properties": message{
			"count": message{"type": "integer", "title": "Count", "order": 0, "minimum": 0, "description": "How far to count."},
		},
	},
}

var stream = message{
	"name":                 "numbers",
	"supported_sync_modes": []string{"full_refresh"},
	"json_schema": message{
		"type":       "object",
		"properties": message{"number": message{"type": "integer"}, "square": message{"type": "integer"}},
	},
}

// count is how far the configuration says to count.
func count(file string) (int, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	var c config
	if err := json.Unmarshal(content, &c); err != nil {
		return 0, fmt.Errorf("%s: %w", file, err)
	}
	if c.Count == nil || *c.Count < 0 {
		return 0, errors.New("count must be a number, 0 or more")
	}
	return *c.Count, nil
}

func read(out *json.Encoder, n int) error {
	for i := 1; i <= n; i++ {
		record := message{"stream": "numbers", "data": message{"number": i, "square": i * i}, "emitted_at": time.Now().UnixMilli()}
		if err := out.Encode(message{"type": "RECORD", "record": record}); err != nil {
			return err
		}
	}
	return nil
}
