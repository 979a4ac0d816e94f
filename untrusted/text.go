// Package untrusted is how vmm handles what guests, kernels, images, other
// programs and files of theirs say: text that goes to a terminal, and JSON.
package untrusted

import (
	"fmt"
	"io"
	"reflect"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// Text is s with each character that is not to be seen written as an escape such
// as \u001b: control characters, which terminals obey (ECMA-48), line breaks,
// with which s could look like lines of ours, and the format characters of
// Unicode, which hide text or turn its direction. A byte that is no UTF-8 is
// written as \x9b.
func Text(s string) string {
	i := strings.IndexFunc(s, func(r rune) bool { return r == utf8.RuneError || !shown(r) })
	if i < 0 {
		return s
	}
	var b strings.Builder
	b.WriteString(s[:i])
	for s = s[i:]; s != ""; {
		r, n := utf8.DecodeRuneInString(s)
		b.Write(escape(r, n, s[:n]))
		s = s[n:]
	}
	return b.String()
}

// shown tells whether a character is one to be seen.
func shown(r rune) bool { return r >= ' ' && r < 0x7f || unicode.IsPrint(r) }

// escape is a character, which takes n bytes, as Text shows it. The escapes are
// those of JSON, so that JSON stays JSON.
func escape(r rune, n int, raw string) []byte {
	switch {
	case r == utf8.RuneError && n == 1:
		return fmt.Appendf(nil, `\x%02x`, raw[0])
	case shown(r):
		return []byte(raw)
	case r > 0xffff:
		high, low := utf16.EncodeRune(r)
		return fmt.Appendf(nil, `\u%04x\u%04x`, high, low)
	}
	return fmt.Appendf(nil, `\u%04x`, r)
}

// Clean applies Text to all strings in what v points to: in structs, slices, maps
// and interfaces, the keys of maps included. Byte slices and fields that are not
// exported stay as they are.
func Clean(v any) { clean(reflect.ValueOf(v)) }

func clean(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			clean(v.Elem())
		}
	case reflect.Interface:
		if !v.IsNil() && v.CanSet() {
			inside := reflect.New(v.Elem().Type()).Elem()
			inside.Set(v.Elem())
			clean(inside)
			v.Set(inside)
		}
	case reflect.String:
		if v.CanSet() {
			v.SetString(Text(v.String()))
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				clean(v.Field(i))
			}
		}
	case reflect.Slice, reflect.Array:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			return
		}
		for i := range v.Len() {
			clean(v.Index(i))
		}
	case reflect.Map:
		for _, key := range v.MapKeys() {
			k, e := reflect.New(key.Type()).Elem(), reflect.New(v.Type().Elem()).Elem()
			k.Set(key)
			e.Set(v.MapIndex(key))
			clean(k)
			clean(e)
			v.SetMapIndex(key, reflect.Value{})
			v.SetMapIndex(k, e)
		}
	}
}

// Writer is w for text that somebody reads at a terminal: what Text escapes is
// escaped in all that is written, but for line breaks and tabs. (A terminal in raw
// mode takes line breaks with a carriage return before them.) A character whose bytes
// come in several calls of Write is shown as bytes.
func Writer(w io.Writer) io.Writer { return writer{w} }

type writer struct{ to io.Writer }

func (w writer) Write(p []byte) (int, error) {
	done := 0 // of p, as it is
	for at := 0; at < len(p); {
		r, n := utf8.DecodeRune(p[at:])
		if r == '\n' || r == '\t' || r == '\r' && at+1 < len(p) && p[at+1] == '\n' || shown(r) && (r != utf8.RuneError || n > 1) {
			at += n
			continue
		}
		for _, part := range [][]byte{p[done:at], escape(r, n, string(p[at:at+n]))} {
			if _, err := w.to.Write(part); err != nil {
				return done, err
			}
		}
		at += n
		done = at
	}
	if done == len(p) {
		return len(p), nil
	}
	n, err := w.to.Write(p[done:])
	return done + n, err
}
