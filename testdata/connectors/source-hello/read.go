package main

import (
	"errors"
	"fmt"
	"slices"
)

// catalog is what the source needs of a ConfiguredAirbyteCatalog.
type catalog struct {
	Streams []configuredStream `json:"streams"`
}

type configuredStream struct {
	Stream struct {
		Name string `json:"name"`
	} `json:"stream"`
	SyncMode    string   `json:"sync_mode"`
	CursorField []string `json:"cursor_field"`
}

// state is what the source needs of an AirbyteStateMessage: the cursor it wrote itself.
type state struct {
	Stream struct {
		Descriptor struct {
			Name string `json:"name"`
		} `json:"stream_descriptor"`
		State cursor `json:"stream_state"`
	} `json:"stream"`
}

// cursor is how far an incremental sync has come. A cursor of another column than the configured one is void.
type cursor struct {
	Field string `json:"cursor_field,omitempty"`
	Value string `json:"cursor,omitempty"`
	// None marks the state of a full refresh, as Airbyte's own CDK does.
	None bool `json:"__ab_no_cursor_state_message,omitempty"`
}

func (s *source) read(c config, catalogFile, stateFile string) error {
	t, err := s.table(c)
	if err != nil {
		return err
	}
	var wanted catalog
	if err := readJSON(catalogFile, &wanted); err != nil {
		return err
	}
	var states []state
	if stateFile != "" {
		if err := readJSON(stateFile, &states); err != nil {
			return err
		}
	}
	for _, stream := range wanted.Streams {
		if stream.Stream.Name != t.name {
			return configError{fmt.Errorf("the catalog has a stream %q, this source has only %q", stream.Stream.Name, t.name)}
		}
		s.status(t.name, "STARTED")
		if err := s.readStream(t, stream, states, c.Limit); err != nil {
			s.status(t.name, "INCOMPLETE")
			return err
		}
		s.status(t.name, "COMPLETE")
	}
	return s.writes
}

// readStream emits the rows that are due and then the state. The rows of an incremental sync go in the cursor's
// order, so that a limit cuts off the newest and the next sync goes on there.
func (s *source) readStream(t *table, stream configuredStream, states []state, limit int) error {
	var (
		rows    = t.rows
		reached = cursor{None: true}
		field   = -1
		err     error
	)
	switch stream.SyncMode {
	case "full_refresh":
		if limit > 0 {
			rows = rows[:min(limit, len(rows))]
		}
	case "incremental":
		if field, err = t.cursorColumn(stream.CursorField); err != nil {
			return err
		}
		reached = lastCursor(states, t.name, t.columns[field].name)
		rows = t.after(field, reached.Value, limit)
	default:
		return configError{errors.New("sync_mode is neither full_refresh nor incremental")}
	}
	s.log("Reading %d of %d rows of %s", len(rows), len(t.rows), t.name)
	for i, row := range rows {
		if i == 0 {
			s.status(t.name, "RUNNING")
		}
		s.emit("RECORD", "record", message{"stream": t.name, "data": t.record(row), "emitted_at": s.now().UnixMilli()})
		if field >= 0 {
			reached.Value = row[field]
		}
	}
	s.emit("STATE", "state", message{"type": "STREAM", "sourceStats": message{"recordCount": float64(len(rows))},
		"stream": message{"stream_descriptor": message{"name": t.name}, "stream_state": reached}})
	return s.writes
}

// cursorColumn is the index of the configured cursor's column, updated_at when none is configured. It has no empty
// cell, because a row without a cursor has no place in the order.
func (t *table) cursorColumn(path []string) (int, error) {
	if len(path) == 0 {
		path = []string{"updated_at"}
	}
	i := t.column(path[0])
	if i < 0 || len(path) > 1 {
		return 0, configError{fmt.Errorf("the cursor %q is no column of %s", path, t.name)}
	}
	if slices.ContainsFunc(t.rows, func(row []string) bool { return row[i] == "" }) {
		return 0, configError{fmt.Errorf("the column %q has empty cells and can't be the cursor", path[0])}
	}
	return i, nil
}

// lastCursor is how far the last sync came by that column.
func lastCursor(states []state, stream, field string) cursor {
	for _, s := range states {
		if s.Stream.Descriptor.Name == stream && s.Stream.State.Field == field {
			return s.Stream.State
		}
	}
	return cursor{Field: field}
}

func (s *source) status(stream, status string) {
	s.emit("TRACE", "trace", message{"type": "STREAM_STATUS", "emitted_at": s.now().UnixMilli(),
		"stream_status": message{"stream_descriptor": message{"name": stream}, "status": status}})
}
