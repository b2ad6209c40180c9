package kube

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
)

// TestExistingReadsEveryPage, the first one by quorum, and all or nothing.
func TestExistingReadsEveryPage(t *testing.T) {
	var expired bool
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		query := r.URL.Query()
		if query.Get("limit") != fmt.Sprint(listPage) || query.Get("resourceVersion") != "" || query.Get("fieldSelector") != podSelector {
			answer(w, 400, "not this list: "+r.URL.RawQuery)
			return
		}
		page := 0
		if token := query.Get("continue"); token != "" {
			if _, err := fmt.Sscan(token, &page); err != nil || expired {
				answer(w, 410, "expired")
				return
			}
		}
		list := metav1.PartialObjectMetadataList{ListMeta: metav1.ListMeta{ResourceVersion: "9"}}
		list.APIVersion, list.Kind = "meta.k8s.io/v1", "PartialObjectMetadataList"
		if page < 2 {
			list.Continue = fmt.Sprint(page + 1)
		}
		list.Items = []metav1.PartialObjectMetadata{{ObjectMeta: metav1.ObjectMeta{UID: types.UID(fmt.Sprint("u", page)), ResourceVersion: fmt.Sprint(page)}}}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(list)
	}))
	t.Cleanup(server.Close)
	client, err := metadata.NewForConfig(&rest.Config{Host: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	w := &Watch{client: &Client{metadata: client}}
	versions, at, err := w.existing(t.Context(), "pods", podSelector)
	if want := map[types.UID]string{"u0": "0", "u1": "1", "u2": "2"}; err != nil || at != "9" || !maps.Equal(versions, want) {
		t.Errorf("%v at %s, error %v; want %v", versions, at, err, want)
	}
	expired = true
	if versions, _, err := w.existing(t.Context(), "pods", podSelector); err == nil {
		t.Errorf("half a list passes for the whole: %v", versions)
	}
}
