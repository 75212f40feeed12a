package cli

import (
	"strings"

	"github.com/airbyte-publish/airbyte-publish/internal/connector"
	"github.com/airbyte-publish/airbyte-publish/internal/fault"
	"github.com/airbyte-publish/airbyte-publish/internal/host"
)

// log is a connector's log on a CI host.
type log struct{ host.Section }

var _ connector.Log = log{}

// Finding shows a finding as the host shows annotations.
func (l log) Finding(f connector.Finding) {
	message := f.Message
	if f.Remedy != "" {
		message += " " + f.Remedy
	}
	l.Annotate(host.Annotation{Level: level(f.Severity), Title: title(f.Code), Message: message, File: f.File, Line: f.Line})
}

// transfer shows how far the uploads of a run have come. The total grows as images are found out about, and a bar has
// one total, so a new bar takes over then.
type transfer struct {
	section host.Section
	total   int64
	set     func(int64)
	stop    func()
}

// progress is called from one goroutine at a time; both numbers are bytes.
func (t *transfer) progress(done, total int64) {
	if t.set == nil || total != t.total {
		t.end()
		t.total = total
		t.set, t.stop = t.section.Progress("pushing", total)
	}
	t.set(done)
	if done >= total {
		t.end()
	}
}

func (t *transfer) end() {
	if t.stop != nil {
		t.stop()
		t.set, t.stop = nil, nil
	}
}

func level(s connector.Severity) host.Level {
	switch s {
	case connector.Error:
		return host.LevelError
	case connector.Warning:
		return host.LevelWarning
	default:
		return host.LevelNotice
	}
}

func title(code fault.Code) string { return string(code) + " " + fault.Titles[code] }

// detect finds out which CI host the process runs on. With json, standard output is for the machine that reads it.
func detect(p Process, json bool) host.Host {
	o := host.Options{Getenv: p.Getenv, Stdout: p.Stdout, Stderr: p.Stderr, Dir: p.Dir,
		StdoutIsTerminal: p.StdoutIsTerminal, StderrIsTerminal: p.StderrIsTerminal}
	if json {
		o.Log = p.Stderr
	}
	return host.Detect(o)
}

// annotate shows the errors of a run where people look first, each with its label if it has one.
func annotate(section host.Section, err error, labels map[*fault.Error]string) {
	for _, e := range fault.List(err) {
		// The title has the code already.
		message := strings.TrimPrefix(e.Error(), string(e.Code)+": ")
		if label := labels[e]; label != "" {
			message = label + ": " + message
		}
		section.Annotate(host.Annotation{Level: host.LevelError, Title: title(e.Code), Message: message + "\n" + e.Code.Page()})
	}
}
