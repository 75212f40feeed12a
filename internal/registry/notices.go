package registry

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

// maxWarnings bounds how many different warnings are shown in a run.
const maxWarnings = 20

// limitHeaders are those by which registries tell how much is left (the IETF draft's names, and Docker Hub's).
var limitHeaders = []string{"RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset", "Docker-RateLimit-Source", "Retry-After"}

// notices are what registries say beside their answers: Warning headers, each shown once, and rate limits, kept for
// an error to tell of.
type notices struct {
	log     func(string)
	secrets *secrets

	mu       sync.Mutex
	told     map[string]bool
	warnings int
	limits   map[string]map[string]string
}

func newNotices(log func(string), known *secrets) *notices {
	return &notices{log: log, secrets: known, told: map[string]bool{}, limits: map[string]map[string]string{}}
}

// once logs the line unless it has been said for the same key before.
func (n *notices) once(key, line string) {
	n.mu.Lock()
	told := n.told[key]
	n.told[key] = true
	n.mu.Unlock()
	if !told {
		n.log(line)
	}
}

// collect reads the headers of an answer. The OCI distribution specification says that a client SHOULD show
// `Warning: 299 - "text"`, and must not act on it.
func (n *notices) collect(host string, h http.Header) {
	for _, w := range h.Values("Warning") {
		text, ok := strings.CutPrefix(w, "299 - ")
		if !ok {
			continue
		}
		text = strings.ReplaceAll(strings.TrimSuffix(strings.TrimPrefix(text, `"`), `"`), `\"`, `"`)
		n.mu.Lock()
		key := "warning " + host + " " + text
		show := !n.told[key] && n.warnings < maxWarnings
		if show {
			n.told[key] = true
			n.warnings++
		}
		n.mu.Unlock()
		if show {
			n.log("the registry " + host + " warns: " + n.secrets.bounded(text))
		}
	}
	for _, name := range limitHeaders {
		if v := n.secrets.redact(h.Get(name)); v != "" {
			n.mu.Lock()
			if n.limits[host] == nil {
				n.limits[host] = map[string]string{}
			}
			n.limits[host][name] = v[:min(len(v), 100)]
			n.mu.Unlock()
		}
	}
}

// limitsOf is what the host said last of its limits, to stand behind a sentence; empty when it said nothing.
func (n *notices) limitsOf(host string) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	var all []string
	for _, name := range slices.Sorted(maps.Keys(n.limits[host])) {
		all = append(all, name+": "+n.limits[host][name])
	}
	if len(all) == 0 {
		return ""
	}
	return " (" + fault.Bounded(strings.Join(all, ", ")) + ")"
}
