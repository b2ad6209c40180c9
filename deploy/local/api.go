package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"
)

// An api speaks JSON to one HTTPS server. client-go would do more, and make
// this program take minutes to compile instead of seconds. Safe for concurrent
// use.
type api struct {
	base   string // URL without a path
	client *http.Client
}

// requestTimeout bounds one request, the longest being the list of all nodes.
const requestTimeout = 30 * time.Second

func newAPI(base string, config *tls.Config) *api {
	return &api{base: base, client: &http.Client{
		Timeout:   requestTimeout,
		Transport: &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true},
	}}
}

// do sends body, unless it is empty, and decodes the answer into answer, unless
// it is nil. Any status but 2xx is an error with the beginning of the answer.
func (a *api) do(ctx context.Context, method, path, contentType string, body []byte, answer any) error {
	req, err := http.NewRequestWithContext(ctx, method, a.base+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	if len(body) > 0 {
		req.Header.Set("Content-Type", contentType)
	}
	resp, err := a.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 500))
		return fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, bytes.TrimSpace(text))
	}
	if answer != nil {
		if err := json.NewDecoder(resp.Body).Decode(answer); err != nil {
			return fmt.Errorf("%s %s: %w", method, path, err)
		}
	}
	_, err = io.Copy(io.Discard, resp.Body) // closed early, the request would count as aborted
	return err
}

// get decodes the answer at path into answer, unless it is nil.
func (a *api) get(ctx context.Context, path string, answer any) error {
	return a.do(ctx, http.MethodGet, path, "", nil, answer)
}

// createYAML posts the manifest to path.
func (a *api) createYAML(ctx context.Context, path string, manifest []byte) error {
	return a.do(ctx, http.MethodPost, path, "application/yaml", manifest, nil)
}

// create posts object as JSON to path.
func (a *api) create(ctx context.Context, path string, object any) error {
	body, err := json.Marshal(object)
	if err != nil {
		return err
	}
	return a.do(ctx, http.MethodPost, path, "application/json", body, nil)
}
