// Command declarative stands in for Airbyte's source-declarative-manifest image: it runs the manifest.yaml that lies in
// source_declarative_manifest beside it, as a source. Of the declarative language it knows what simple HTTP streams
// need (GET, DpathExtractor, config values in strings); anything else in a stream is an error, not ignored.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"time"
)

// injected is the configuration's key for a manifest where the image holds none, as in Airbyte's image.
const injected = "__injected_declarative_manifest"

func main() {
	exe, err := os.Executable()
	if err != nil {
		fmt.Fprintln(os.Stderr, "declarative:", err)
		os.Exit(1)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	code := run(ctx, os.Args[1:], os.Stdout, filepath.Dir(exe))
	stop()
	os.Exit(code)
}

// object is a JSON object.
type object = map[string]any

// runner is one run of the source.
type runner struct {
	out    *bufio.Writer
	file   string // the manifest's only right place
	client *http.Client
	writes error // the first error in writing to out
}

func run(ctx context.Context, args []string, out io.Writer, home string) int {
	r := &runner{
		out:    bufio.NewWriter(out),
		file:   filepath.Join(home, "source_declarative_manifest", "manifest.yaml"),
		client: &http.Client{Timeout: 30 * time.Second},
	}
	err := r.command(ctx, args)
	if err != nil {
		r.trace("ERROR", "error", object{"message": err.Error(), "failure_type": "system_error"})
	}
	if flushed := r.out.Flush(); err != nil || r.writes != nil || flushed != nil {
		return 1
	}
	return 0
}

func (r *runner) command(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return errors.New("no command: want spec, check, discover or read")
	}
	flags := flag.NewFlagSet(args[0], flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	configFile := flags.String("config", "", "the configuration, a JSON file")
	catalogFile := flags.String("catalog", "", "the configured catalog, a JSON file")
	flags.String("state", "", "taken and not used: these streams are always read whole")
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	if args[0] == "spec" {
		return r.spec()
	}
	config, err := readObject(*configFile)
	if err != nil {
		return err
	}
	m, err := r.manifest(config)
	if err != nil {
		return err
	}
	switch args[0] {
	case "check":
		status := object{"status": "SUCCEEDED"}
		if err := r.check(ctx, m, config); err != nil {
			status = object{"status": "FAILED", "message": err.Error()}
		}
		r.emit("CONNECTION_STATUS", "connectionStatus", status)
		return nil
	case "discover":
		r.emit("CATALOG", "catalog", object{"streams": m.catalog()})
		return nil
	case "read":
		return r.read(ctx, m, config, *catalogFile)
	}
	return fmt.Errorf("unknown command %q: want spec, check, discover or read", args[0])
}

// genericSpec is what Airbyte's image prints when its manifest is not in its place: a specification that asks for the
// manifest as configuration. An image that prints it works, and is not the connector that was meant.
var genericSpec = object{
	"documentationUrl": "https://docs.airbyte.com/integrations/sources/low-code",
	"connectionSpecification": object{
		"$schema":              "http://json-schema.org/draft-07/schema#",
		"title":                "Low-code source spec",
		"type":                 "object",
		"required":             []string{injected},
		"additionalProperties": true,
		"properties": object{
			injected: object{"title": "Low-code manifest", "type": "object", "description": "The low-code manifest of the source."},
		},
	},
}

func (r *runner) spec() error {
	data, err := os.ReadFile(r.file)
	if errors.Is(err, fs.ErrNotExist) {
		r.emit("SPEC", "spec", genericSpec)
		return nil
	}
	if err != nil {
		return err
	}
	m, err := parseManifest(data)
	if err != nil {
		return err
	}
	spec := object{"connectionSpecification": m.Spec.ConnectionSpecification}
	if m.Spec.DocumentationURL != "" {
		spec["documentationUrl"] = m.Spec.DocumentationURL
	}
	r.emit("SPEC", "spec", spec)
	return nil
}

// manifest is the one in the image, else the one in the configuration.
func (r *runner) manifest(config object) (*manifest, error) {
	data, err := os.ReadFile(r.file)
	if errors.Is(err, fs.ErrNotExist) {
		if config[injected] == nil {
			return nil, fmt.Errorf("there is neither %s nor %s in the configuration", r.file, injected)
		}
		if data, err = json.Marshal(config[injected]); err != nil { // JSON is YAML too
			return nil, err
		}
	} else if err != nil {
		return nil, err
	}
	return parseManifest(data)
}

// check reads the streams that the manifest names for it.
func (r *runner) check(ctx context.Context, m *manifest, config object) error {
	for _, name := range m.Check.StreamNames {
		s, err := m.stream(name)
		if err != nil {
			return err
		}
		if _, err := r.records(ctx, s, config); err != nil {
			return err
		}
	}
	return nil
}

func (r *runner) read(ctx context.Context, m *manifest, config object, catalogFile string) error {
	data, err := os.ReadFile(catalogFile)
	if err != nil {
		return err
	}
	var catalog struct {
		Streams []struct {
			Stream struct {
				Name string `json:"name"`
			} `json:"stream"`
		} `json:"streams"`
	}
	if err := json.Unmarshal(data, &catalog); err != nil {
		return fmt.Errorf("%s: %w", filepath.Base(catalogFile), err)
	}
	for _, configured := range catalog.Streams {
		s, err := m.stream(configured.Stream.Name)
		if err != nil {
			return err
		}
		r.status(s.Name, "STARTED")
		records, err := r.records(ctx, s, config)
		if err != nil {
			r.status(s.Name, "INCOMPLETE")
			return err
		}
		for _, record := range records {
			r.emit("RECORD", "record", object{"stream": s.Name, "data": record, "emitted_at": time.Now().UnixMilli()})
		}
		r.emit("STATE", "state", object{"type": "STREAM", "stream": object{"stream_descriptor": object{"name": s.Name},
			"stream_state": object{"__ab_no_cursor_state_message": true}}})
		r.status(s.Name, "COMPLETE")
	}
	return r.writes
}

func (r *runner) status(stream, status string) {
	r.trace("STREAM_STATUS", "stream_status", object{"stream_descriptor": object{"name": stream}, "status": status})
}

func (r *runner) trace(kind, field string, body object) {
	r.emit("TRACE", "trace", object{"type": kind, "emitted_at": time.Now().UnixMilli(), field: body})
}

// emit writes one message. Its field is the part of AirbyteMessage that goes with the type.
func (r *runner) emit(kind, field string, body any) {
	line, err := json.Marshal(object{"type": kind, field: body})
	if err == nil {
		_, err = r.out.Write(append(line, '\n'))
	}
	if r.writes == nil {
		r.writes = err
	}
}

// readObject keeps numbers as they are written, since they may go into a URL.
func readObject(path string) (object, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var o object
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	if err := decoder.Decode(&o); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Base(path), err)
	}
	return o, nil
}
