package main

import (
	"cmp"
	"reflect"
	"slices"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// shrink makes c smaller for as long as it fails: it takes away objects, then
// everything in them, until nothing can be taken away any more. Fails is not asked
// about cases that the API server would refuse.
func shrink(c *Case, fails func(*Case) bool) *Case {
	for {
		smaller, progress := c, false
		for k := 0; ; {
			next := smaller.deepCopy()
			e := edits{target: k}
			e.visit(reflect.ValueOf(next).Elem())
			if !e.done {
				break // there is no k-th edit
			}
			if _, err := next.admit(); err == nil && len(next.Pending) > 0 && len(next.Nodes) > 0 && fails(next) {
				smaller, progress = next, true
				continue // what was the next edit is the k-th now
			}
			k++
		}
		if c = smaller; !progress {
			return c
		}
	}
}

// edits makes one of the possible edits of a value: the one that is visited after
// target others.
type edits struct {
	target, seen int
	done         bool
}

// here says whether the edit whose turn it is is the one to make.
func (e *edits) here() bool {
	e.seen++
	e.done = e.done || e.seen > e.target
	return e.done
}

func (e *edits) visit(v reflect.Value) {
	switch v.Interface().(type) {
	case metav1.ObjectMeta:
		for _, name := range []string{"Labels", "Annotations", "OwnerReferences", "DeletionTimestamp"} {
			if e.visit(v.FieldByName(name)); e.done {
				return
			}
		}
		return
	case resource.Quantity, metav1.Time, metav1.TypeMeta, metav1.OwnerReference:
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return
		}
		if e.here() {
			v.SetZero()
			return
		}
		if _, time := v.Interface().(*metav1.Time); !time {
			e.visit(v.Elem())
		}
	case reflect.Slice:
		for i := v.Len() - 1; i >= 0; i-- {
			if e.here() {
				v.Set(reflect.AppendSlice(v.Slice(0, i), v.Slice(i+1, v.Len())))
				return
			}
		}
		for i := range v.Len() {
			element := v.Index(i)
			if element.Kind() == reflect.Pointer && !element.IsNil() {
				element = element.Elem() // an object is taken away, not made nil
			}
			if e.visit(element); e.done {
				return
			}
		}
	case reflect.Map:
		keys := v.MapKeys()
		slices.SortFunc(keys, func(a, b reflect.Value) int { return cmp.Compare(a.String(), b.String()) })
		for _, key := range keys {
			if e.here() {
				v.SetMapIndex(key, reflect.Value{})
				return
			}
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if !v.Type().Field(i).IsExported() {
				continue
			}
			if e.visit(v.Field(i)); e.done {
				return
			}
		}
	case reflect.Bool, reflect.String, reflect.Int32, reflect.Int64, reflect.Uint64:
		if !v.IsZero() && e.here() {
			v.SetZero()
		}
	}
}
