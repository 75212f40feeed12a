package main

import (
	"cmp"
	"encoding/csv"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// table is a CSV file: one stream.
type table struct {
	name    string
	columns []column
	rows    [][]string
}

type column struct {
	name string
	// integer tells that every cell that isn't empty is a whole number.
	integer bool
}

func loadTable(path string) (*table, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, configError{err}
	}
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil {
		return nil, configError{fmt.Errorf("%s: %w", filepath.Base(path), err)}
	}
	if len(rows) == 0 {
		return nil, configError{fmt.Errorf("%s has no header line", filepath.Base(path))}
	}
	t := &table{name: strings.TrimSuffix(filepath.Base(path), filepath.Ext(path)), rows: rows[1:]}
	for i, name := range rows[0] {
		if name == "" || t.column(name) >= 0 {
			return nil, configError{fmt.Errorf("%s: column %d is named %q, want a name of its own", filepath.Base(path), i+1, name)}
		}
		t.columns = append(t.columns, column{name: name, integer: t.holdsIntegers(i)})
	}
	return t, nil
}

func (t *table) holdsIntegers(column int) bool {
	found := false
	for _, row := range t.rows {
		if row[column] == "" {
			continue
		}
		if _, err := strconv.ParseInt(row[column], 10, 64); err != nil {
			return false
		}
		found = true
	}
	return found
}

// column is the index of the column with that name, or -1.
func (t *table) column(name string) int {
	return slices.IndexFunc(t.columns, func(c column) bool { return c.name == name })
}

// stream is the AirbyteStream of the table. Any column may be the cursor; updated_at is proposed where there is one.
func (t *table) stream() message {
	properties := message{}
	for _, c := range t.columns {
		kind := "string"
		if c.integer {
			kind = "integer"
		}
		properties[c.name] = message{"type": []string{"null", kind}}
	}
	stream := message{
		"name":                 t.name,
		"supported_sync_modes": []string{"full_refresh", "incremental"},
		"json_schema": message{"$schema": "http://json-schema.org/draft-07/schema#", "type": "object",
			"additionalProperties": true, "properties": properties},
	}
	if t.column("updated_at") >= 0 {
		stream["default_cursor_field"] = []string{"updated_at"}
	}
	if t.column("id") >= 0 {
		stream["source_defined_primary_key"] = [][]string{{"id"}}
	}
	return stream
}

// record is a row as a record's data. An empty cell is null.
func (t *table) record(row []string) message {
	data := message{}
	for i, c := range t.columns {
		switch {
		case row[i] == "":
			data[c.name] = nil
		case c.integer:
			n, _ := strconv.ParseInt(row[i], 10, 64) // holdsIntegers parsed it
			data[c.name] = n
		default:
			data[c.name] = row[i]
		}
	}
	return data
}

// compare orders two cells of a column: whole numbers by value, everything else, so ISO times too, by their text.
func (t *table) compare(column int, a, b string) int {
	if t.columns[column].integer {
		x, errX := strconv.ParseInt(a, 10, 64)
		y, errY := strconv.ParseInt(b, 10, 64)
		if errX == nil && errY == nil {
			return cmp.Compare(x, y)
		}
	}
	return cmp.Compare(a, b)
}

// after returns the rows whose cursor is greater than the one given, in the cursor's order, and at most limit of
// them where that isn't 0; rows of one cursor stay together, since the next sync goes on behind it.
func (t *table) after(column int, cursor string, limit int) [][]string {
	var rows [][]string
	for _, row := range t.rows {
		if cursor == "" || t.compare(column, row[column], cursor) > 0 {
			rows = append(rows, row)
		}
	}
	slices.SortStableFunc(rows, func(a, b []string) int { return t.compare(column, a[column], b[column]) })
	if limit == 0 {
		return rows
	}
	n := min(limit, len(rows))
	for n < len(rows) && rows[n][column] == rows[n-1][column] {
		n++
	}
	return rows[:n]
}
