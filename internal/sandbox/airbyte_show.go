package sandbox

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

// showPath is where the stand-in serves what Show writes, to anybody: the one path that Airbyte does not have.
const showPath = "/sandbox/definitions"

// Show writes a listing of the definitions that users made, for people to read.
func (a *Airbyte) Show(w io.Writer) error {
	list := a.Definitions()
	if len(list) == 0 {
		_, err := fmt.Fprintf(w, "Airbyte %s holds no custom definitions.\n", a.o.Version)
		return err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "Airbyte %s holds these custom definitions:\n", a.o.Version)
	for _, d := range list {
		fmt.Fprintf(&b, "\n%s %s\n", d.Type, d.Name)
		if d.Tombstone {
			b.WriteString("  deleted\n")
		}
		fmt.Fprintf(&b, "  id          %s\n", d.ID)
		for _, id := range d.Workspaces {
			fmt.Fprintf(&b, "  workspace   %s\n", id)
		}
		fmt.Fprintf(&b, "  image       %s:%s\n", d.Repository, d.Tag)
		title, required := specSummary(d.Specs[d.Tag])
		if title != "" {
			fmt.Fprintf(&b, "  spec        %s\n", title)
		}
		if len(required) > 0 {
			fmt.Fprintf(&b, "  requires    %s\n", strings.Join(required, ", "))
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// specSummary is the title and the required properties of a stored specification.
func specSummary(spec json.RawMessage) (title string, required []string) {
	var s struct {
		ConnectionSpecification struct {
			Title    string   `json:"title"`
			Required []string `json:"required"`
		} `json:"connectionSpecification"`
	}
	_ = json.Unmarshal(spec, &s) // What can't be read has nothing to show.
	return s.ConnectionSpecification.Title, s.ConnectionSpecification.Required
}
