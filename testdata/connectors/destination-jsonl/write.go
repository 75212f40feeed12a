package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/url"
	"os"
	"slices"
)

// catalog is what the destination needs of a ConfiguredAirbyteCatalog.
type catalog struct {
	Streams []struct {
		Stream struct {
			Name      string `json:"name"`
			Namespace string `json:"namespace"`
		} `json:"stream"`
		Mode string `json:"destination_sync_mode"`
	} `json:"streams"`
}

// message is what the destination needs of an AirbyteMessage that the platform hands it.
type message struct {
	Type   string `json:"type"`
	Record struct {
		Stream    string          `json:"stream"`
		Namespace string          `json:"namespace"`
		Data      json.RawMessage `json:"data"`
		EmittedAt int64           `json:"emitted_at"`
	} `json:"record"`
}

// row is a line of a file.
type row struct {
	ExtractedAt int64           `json:"_airbyte_extracted_at"`
	Data        json.RawMessage `json:"_airbyte_data"`
}

// sink is a stream's open file.
type sink struct {
	file    *os.File
	buffer  *bufio.Writer
	records int
}

// flush returns when everything written so far has reached the disk.
func (s *sink) flush() error {
	return errors.Join(s.buffer.Flush(), s.file.Sync())
}

type sinks map[string]*sink

func (all sinks) flush() error {
	for _, s := range all {
		if err := s.flush(); err != nil {
			return err
		}
	}
	return nil
}

// fileName is a stream's file. Escaping keeps separators out of it, and "@" between the two parts is unambiguous
// because it is escaped within them.
func fileName(namespace, name string) string {
	escaped := url.QueryEscape(name) + ".jsonl"
	if namespace == "" {
		return escaped
	}
	return url.QueryEscape(namespace) + "@" + escaped
}

// write stores the records of in. A STATE goes back to the platform unchanged, and only when every record before it is
// on disk: that is the platform's proof that it need not send them again.
func write(c config, want catalog, in io.Reader, out io.Writer) (err error) {
	root, err := c.open()
	if err != nil {
		return err
	}
	defer root.Close()
	all := sinks{}
	defer func() {
		for _, s := range all {
			err = errors.Join(err, s.file.Close())
		}
	}()
	for _, stream := range want.Streams {
		flag := map[string]int{"append": os.O_APPEND, "overwrite": os.O_TRUNC}[stream.Mode]
		if flag == 0 {
			return configError{fmt.Errorf("stream %q has the sync mode %q, want append or overwrite", stream.Stream.Name, stream.Mode)}
		}
		name := fileName(stream.Stream.Namespace, stream.Stream.Name)
		if all[name] != nil {
			return configError{fmt.Errorf("the catalog has the stream %q twice", stream.Stream.Name)}
		}
		file, err := root.OpenFile(name, flag|os.O_CREATE|os.O_WRONLY, 0o644)
		if err != nil {
			return configError{err}
		}
		all[name] = &sink{file: file, buffer: bufio.NewWriter(file)}
	}
	if err := all.copy(json.NewDecoder(in), out); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		log := object{"level": "INFO", "message": fmt.Sprintf("Wrote %d records to %s", all[name].records, name)}
		if err := emit(out, object{"type": "LOG", "log": log}); err != nil {
			return err
		}
	}
	return nil
}

// copy takes messages until their end.
func (all sinks) copy(in *json.Decoder, out io.Writer) error {
	for {
		var raw json.RawMessage
		if err := in.Decode(&raw); errors.Is(err, io.EOF) {
			return all.flush()
		} else if err != nil {
			return errors.Join(fmt.Errorf("reading messages: %w", err), all.flush())
		}
		var m message
		if err := json.Unmarshal(raw, &m); err != nil {
			return errors.Join(fmt.Errorf("reading a message: %w", err), all.flush())
		}
		switch m.Type {
		case "RECORD":
			if err := all.store(m); err != nil {
				return err
			}
		case "STATE":
			if err := all.flush(); err != nil {
				return err
			}
			if err := emit(out, raw); err != nil {
				return err
			}
		}
	}
}

func (all sinks) store(m message) error {
	s := all[fileName(m.Record.Namespace, m.Record.Stream)]
	if s == nil {
		return fmt.Errorf("a record belongs to the stream %q, which the catalog doesn't have", m.Record.Stream)
	}
	s.records++
	return emit(s.buffer, row{ExtractedAt: m.Record.EmittedAt, Data: m.Record.Data})
}
