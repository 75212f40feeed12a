package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
)

// maxBody is how much of an answer is read, in bytes.
const maxBody = 16 << 20

// records asks for the stream's records and takes them out of the answer.
func (r *runner) records(ctx context.Context, s *stream, config object) ([]object, error) {
	request, err := s.Retriever.Requester.request(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("stream %q: %w", s.Name, err)
	}
	response, err := r.client.Do(request)
	if err != nil {
		return nil, fmt.Errorf("stream %q: %w", s.Name, err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("stream %q: the API answered %s", s.Name, response.Status)
	}
	var answer any
	if err := json.NewDecoder(io.LimitReader(response.Body, maxBody)).Decode(&answer); err != nil {
		return nil, fmt.Errorf("stream %q: %w", s.Name, err)
	}
	for _, key := range s.Retriever.Selector.Extractor.FieldPath {
		fields, _ := answer.(map[string]any)
		answer = fields[key]
	}
	var found []any
	switch answer := answer.(type) {
	case nil:
	case []any:
		found = answer
	default:
		found = []any{answer}
	}
	records := make([]object, 0, len(found))
	for _, item := range found {
		record, ok := item.(map[string]any)
		if !ok {
			return nil, fmt.Errorf("stream %q: a record is no object", s.Name)
		}
		records = append(records, record)
	}
	return records, nil
}

func (q requester) request(ctx context.Context, config object) (*http.Request, error) {
	base, err := interpolate(q.URLBase, config)
	if err != nil {
		return nil, err
	}
	path, err := interpolate(q.Path, config)
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(base, "/")+"/"+strings.TrimPrefix(path, "/"), nil)
	if err != nil {
		return nil, err
	}
	parameters := url.Values{}
	if err := eachValue(q.Parameters, config, parameters.Set); err != nil {
		return nil, err
	}
	request.URL.RawQuery = parameters.Encode()
	return request, eachValue(q.Headers, config, request.Header.Set)
}

// eachValue sets the values that are not empty once the configuration is in them.
func eachValue(values map[string]string, config object, set func(name, value string)) error {
	for name, template := range values {
		value, err := interpolate(template, config)
		if err != nil {
			return err
		}
		if value != "" {
			set(name, value)
		}
	}
	return nil
}

var (
	expression = regexp.MustCompile(`\{\{.*?\}\}`)
	configKey  = regexp.MustCompile(`^\{\{\s*config\[(?:'([^']*)'|"([^"]*)")\]\s*\}\}$`)
)

// interpolate puts the configuration's values into a string. A key that is not there gives nothing, as in Airbyte.
func interpolate(template string, config object) (string, error) {
	var bad error
	value := expression.ReplaceAllStringFunc(template, func(found string) string {
		key := configKey.FindStringSubmatch(found)
		if key == nil {
			bad = fmt.Errorf("%s is an expression that this stand-in does not know", found)
			return ""
		}
		if v := config[key[1]+key[2]]; v != nil {
			return fmt.Sprint(v)
		}
		return ""
	})
	return value, bad
}
