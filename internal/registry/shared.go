package registry

import (
	"context"
	"sync"
)

// shared lets those who want the same thing at the same time share one attempt at it, and its error: an attempt that
// takes a minute to fail would else be made by each of them in turn. A later one tries anew. The zero value is ready.
type shared[T any] struct {
	mu  sync.Mutex
	now *attempt[T]
}

type attempt[T any] struct {
	done  chan struct{}
	value T
	err   error
	// ended tells that it failed because the context of the one who made it was done.
	ended bool
}

// do makes an attempt, or waits for the one that is being made, or until ctx is done. What another's context has ended
// is tried anew.
func (s *shared[T]) do(ctx context.Context, create func() (T, error)) (T, error) {
	for {
		s.mu.Lock()
		a := s.now
		if a == nil {
			a = &attempt[T]{done: make(chan struct{})}
			s.now = a
			s.mu.Unlock()
			defer func() {
				a.ended = a.err != nil && ctx.Err() != nil
				s.mu.Lock()
				s.now = nil
				s.mu.Unlock()
				close(a.done)
			}()
			a.value, a.err = create()
			return a.value, a.err
		}
		s.mu.Unlock()
		select {
		case <-a.done:
		case <-ctx.Done():
			return *new(T), ctx.Err()
		}
		if !a.ended || ctx.Err() != nil {
			return a.value, a.err
		}
	}
}

// cell holds something that is made once. Making it may be tried again after an error. The zero value is ready.
type cell[T any] struct {
	attempts shared[T]

	mu    sync.Mutex
	made  bool
	value T
}

func (c *cell[T]) get(ctx context.Context, create func() (T, error)) (T, error) {
	if v, made := c.kept(); made {
		return v, nil
	}
	return c.attempts.do(ctx, func() (T, error) {
		if v, made := c.kept(); made {
			return v, nil
		}
		v, err := create()
		if err == nil {
			c.mu.Lock()
			c.value, c.made = v, true
			c.mu.Unlock()
		}
		return v, err
	})
}

func (c *cell[T]) kept() (T, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.value, c.made
}

// cellOf returns the map's cell for key, which it makes if need be.
func cellOf[T any](mu *sync.Mutex, m map[string]*cell[T], key string) *cell[T] {
	mu.Lock()
	defer mu.Unlock()
	if m[key] == nil {
		m[key] = &cell[T]{}
	}
	return m[key]
}
