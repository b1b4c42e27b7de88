package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestNotices: THIRD_PARTY_NOTICES is what `make notices` would make now.
func TestNotices(t *testing.T) {
	want, err := notices("../..")
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile("../../THIRD_PARTY_NOTICES")
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("THIRD_PARTY_NOTICES is not up to date (%v): run make notices", err)
	}
	for _, has := range []string{"Go's standard library (BSD-3-Clause)", "github.com/jackc/pgx/v5 v", "(MIT)", "NOTICE:"} {
		if !bytes.Contains(want, []byte(has)) {
			t.Errorf("the notices have no %q", has)
		}
	}
}

// TestCheck: what may not be used, or is not known, is refused by name.
func TestCheck(t *testing.T) {
	mit, err := os.ReadFile("testdata/MIT")
	if err != nil {
		t.Fatal(err)
	}
	const gpl = "This program is free software: you can redistribute it and/or modify it under the terms of the GNU General Public License as published by the Free Software Foundation, either version 3 of the License, or (at your option) any later version."
	const mpl = "This Source Code Form is subject to the terms of the Mozilla Public License, v. 2.0. If a copy of the MPL was not distributed with this file, You can obtain one at https://mozilla.org/MPL/2.0/."
	for _, tt := range []struct {
		name, text, want string
	}{
		{"LICENSE", string(mit), ""},
		{"COPYING.txt", string(mit), ""},
		{"LICENSE", gpl, "x v1: LICENSE: GPL-3.0-or-later is not among the licences that are allowed"},
		{"LICENSE", string(mit) + "\n" + gpl, "GPL-3.0-or-later"},
		{"LICENSE", mpl, "MPL-2.0 is not among"},
		{"LICENSE", "Do what you like, but not on Sundays.", "x v1: LICENSE: 0 % of it is a licence that is known"},
		{"NOTICE", string(mit), "x v1 has no licence"},
		{"README", string(mit), "x v1 has no licence"},
	} {
		dir := t.TempDir()
		if err := os.MkdirAll(filepath.Join(dir, "pkg"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, tt.name), []byte(tt.text), 0o644); err != nil {
			t.Fatal(err)
		}
		libraries := map[string]*library{}
		add(libraries, "x v1", dir, filepath.Join(dir, "pkg"))
		err := check(libraries, allowed)
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s %.40q: %v; want %q", tt.name, tt.text, err, tt.want)
		}
	}
}
