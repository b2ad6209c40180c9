package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/berth-scheduler/berth/watcher/internal/driver"
)

func testPod() *corev1.Pod {
	p := &corev1.Pod{}
	p.Namespace, p.Name, p.UID, p.ResourceVersion, p.Generation = "shop", "web", "u1", "5", 1
	p.Spec.SchedulerName = "berth"
	return p
}

// serve returns a client whose API server is handle.
func serve(t *testing.T, handle http.HandlerFunc) *Client {
	t.Helper()
	server := httptest.NewServer(handle)
	t.Cleanup(server.Close)
	set, err := kubernetes.NewForConfig(&rest.Config{Host: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	return &Client{host: server.URL, main: set, reports: set, lease: set, precedence: newPrecedence()}
}

// answer writes a Status as the API server does.
func answer(w http.ResponseWriter, code int, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	status := metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Code: int32(code), Message: message}
	if code >= 400 {
		status.Status = metav1.StatusFailure
	}
	_ = json.NewEncoder(w).Encode(status)
}

func TestBindOutcomes(t *testing.T) {
	for _, test := range []struct {
		code int
		want driver.BindOutcome
	}{
		{201, driver.BindOK},
		{404, driver.BindGone},
		{409, driver.BindConflict},
		{400, driver.BindRefused},
		{401, driver.BindRefused},
		{403, driver.BindRefused},
		{422, driver.BindRefused},
		{408, driver.BindUnknown},
		{429, driver.BindUnknown},
		{500, driver.BindUnknown},
		{503, driver.BindUnknown},
		{504, driver.BindUnknown},
	} {
		t.Run(fmt.Sprint(test.code), func(t *testing.T) {
			var path, body string
			c := serve(t, func(w http.ResponseWriter, r *http.Request) {
				raw, _ := io.ReadAll(r.Body)
				path, body = r.Method+" "+r.URL.Path, string(raw)
				answer(w, test.code, "because")
			})
			outcome, message := c.Bind(t.Context(), driver.Bind{Pod: testPod(), Node: "n1"})
			if outcome != test.want {
				t.Errorf("outcome %v, want %v", outcome, test.want)
			}
			if (message == "") != (test.want == driver.BindOK) {
				t.Errorf("message %q", message)
			}
			if path != "POST /api/v1/namespaces/shop/pods/web/binding" {
				t.Errorf("request %s", path)
			}
			for _, part := range []string{`"uid":"u1"`, `"kind":"Node"`, `"name":"n1"`} {
				if !strings.Contains(body, part) {
					t.Errorf("binding %s lacks %s", body, part)
				}
			}
		})
	}
}

func TestBindOutcomeOfLostAnswers(t *testing.T) {
	cut := serve(t, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	if outcome, message := cut.Bind(t.Context(), driver.Bind{Pod: testPod(), Node: "n1"}); outcome != driver.BindUnknown || message == "" {
		t.Errorf("a connection that was cut: %v, %q", outcome, message)
	}
	release := make(chan struct{})
	slow := serve(t, func(http.ResponseWriter, *http.Request) { <-release })
	t.Cleanup(func() { close(release) })
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if outcome, message := slow.Bind(ctx, driver.Bind{Pod: testPod(), Node: "n1"}); outcome != driver.BindUnknown || message == "" {
		t.Errorf("no answer in time: %v, %q", outcome, message)
	}
}

// A 404 by something between here and the API server says nothing about the pod.
func TestNotFoundByAProxy(t *testing.T) {
	c := serve(t, http.NotFound)
	if outcome, _ := c.Bind(t.Context(), driver.Bind{Pod: testPod(), Node: "n1"}); outcome != driver.BindUnknown {
		t.Errorf("outcome %v", outcome)
	}
	if pod, err := c.Read(t.Context(), driver.Read{Namespace: "shop", Name: "web", UID: "u1"}); err == nil {
		t.Errorf("read %v and no error", pod)
	}
}

func TestBindTriesAgainWhenTold(t *testing.T) {
	tries := 0
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if tries++; tries == 1 {
			w.Header().Set("Retry-After", "0")
			answer(w, 429, "slow down")
			return
		}
		answer(w, 201, "")
	})
	if outcome, _ := c.Bind(t.Context(), driver.Bind{Pod: testPod(), Node: "n1"}); outcome != driver.BindOK || tries != 2 {
		t.Errorf("outcome %v after %d tries", outcome, tries)
	}
}

func TestRead(t *testing.T) {
	read := driver.Read{Namespace: "shop", Name: "web", UID: "u1"}
	for _, test := range []struct {
		name      string
		code      int
		uid       string
		want, err bool
	}{
		{"the pod", 200, "u1", true, false},
		{"another of its name", 200, "u2", false, false},
		{"none", 404, "", false, false},
		{"an error", 500, "", false, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := serve(t, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Query().Has("resourceVersion") {
					t.Error("a read with a resourceVersion is not by quorum")
				}
				if test.code != 200 {
					answer(w, test.code, "because")
					return
				}
				w.Header().Set("Content-Type", "application/json")
				fmt.Fprintf(w, `{"kind":"Pod","apiVersion":"v1","metadata":{"namespace":"shop","name":"web","uid":%q}}`, test.uid)
			})
			pod, err := c.Read(t.Context(), read)
			if (pod != nil) != test.want || (err != nil) != test.err {
				t.Errorf("pod %v, error %v", pod, err)
			}
		})
	}
}

func TestPingNamesTheServer(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	host := server.URL
	server.Close()
	set, err := kubernetes.NewForConfig(&rest.Config{Host: host})
	if err != nil {
		t.Fatal(err)
	}
	if err := (&Client{host: host, main: set}).Ping(t.Context()); err == nil || !strings.Contains(err.Error(), host) || strings.Contains(err.Error(), "\n") {
		t.Errorf("error %v", err)
	}
}
