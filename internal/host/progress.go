package host

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

const (
	// redrawEvery is how often a bar is drawn anew at most.
	redrawEvery = 100 * time.Millisecond
	// A log gets a line about a transfer no sooner than lineEvery after the last, and only when a quarter has come
	// since, or lineAtLeastEvery has passed: some hosts end a job that says nothing.
	lineEvery        = 10 * time.Second
	lineAtLeastEvery = time.Minute

	// A bar takes less than 80 columns, whatever the numbers in it.
	barWidth = 16
	barTitle = 24

	clearLine = "\r\x1b[2K"
	mebibyte  = 1 << 20
)

// transfer is a long transfer.
type transfer struct {
	title       string
	total, done int64
	told, drawn time.Time
	toldDone    int64
}

// barStack draws the bars of the running transfers on a terminal: the oldest one, and how many more there are, because
// a line is all that can be redrawn without knowing the terminal's height. Without w it draws nothing.
type barStack struct {
	w       io.Writer
	running []*transfer
	visible bool
}

// Progress implements Section.
func (s *section) Progress(title string, total int64) (set func(done int64), end func()) {
	l := s.l
	title = l.cleanTitle(title)
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	t := &transfer{title: title, total: total, told: now, drawn: now}
	if l.bars.w != nil {
		l.bars.running = append(l.bars.running, t)
		l.bars.draw(l)
		return func(done int64) { l.redraw(t, done) }, func() { l.endBar(t) }
	}
	return func(done int64) { s.tell(t, done) }, func() {}
}

// tell prints a line about t, if it is time for one.
func (s *section) tell(t *transfer, done int64) {
	s.l.mu.Lock()
	defer s.l.mu.Unlock()
	t.done = t.within(done)
	passed := s.l.now().Sub(t.told)
	quarter := t.total > 0 && (t.done-t.toldDone)*4 >= t.total
	if passed < lineEvery || !quarter && passed < lineAtLeastEvery {
		return
	}
	t.told, t.toldDone = s.l.now(), t.done
	s.put(s.l.lines([]string{t.title + ": " + t.amount()}, len(s.open)))
}

func (l *logger) redraw(t *transfer, done int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	t.done = t.within(done)
	if now := l.now(); now.Sub(t.drawn) >= redrawEvery {
		t.drawn = now
		l.bars.draw(l)
	}
}

func (l *logger) endBar(t *transfer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.bars.running = slices.DeleteFunc(l.bars.running, func(o *transfer) bool { return o == t })
	l.bars.clear(l)
	l.bars.draw(l)
}

// clear takes the bar away, so that a line can be written in its place.
func (b *barStack) clear(l *logger) {
	if b.visible {
		b.visible = false
		l.write(b.w, clearLine)
	}
}

func (b *barStack) draw(l *logger) {
	if len(b.running) == 0 {
		return
	}
	t := b.running[0]
	text := clearLine + shorten(t.title, barTitle)
	if t.total > 0 {
		filled := int(t.done * barWidth / t.total)
		text += " [" + strings.Repeat("=", filled) + strings.Repeat(" ", barWidth-filled) + "]"
	}
	text += " " + t.amount()
	if more := len(b.running) - 1; more > 0 {
		text += fmt.Sprintf(" +%d", more)
	}
	b.visible = true
	l.write(b.w, text)
}

// amount says how far t has come.
func (t *transfer) amount() string {
	if t.total <= 0 {
		return fmt.Sprintf("%.1f MiB", float64(t.done)/mebibyte)
	}
	return fmt.Sprintf("%.1f of %.1f MiB (%d %%)", float64(t.done)/mebibyte, float64(t.total)/mebibyte, t.done*100/t.total)
}

// within keeps done between nothing and all: a repeated upload counts its bytes again.
func (t *transfer) within(done int64) int64 {
	if t.total > 0 {
		done = min(done, t.total)
	}
	return max(done, 0)
}
