package feed

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
)

func TestBetween(t *testing.T) {
	f := &Feed{sent: [][]int64{{10, 20, 30}, nil}}
	for _, tt := range []struct{ stream, from, to, first, last int }{
		{0, 0, 100, 1, 3},
		{0, 10, 30, 1, 2}, // the end is not in it
		{0, 11, 31, 2, 3},
		{0, 21, 25, 3, 2}, // none
		{0, 40, 50, 4, 3},
		{0, 50, 40, 4, 3}, // ended before it began
		{1, 0, 100, 1, 0},
	} {
		if first, last := f.Between(tt.stream, int64(tt.from), int64(tt.to)); first != tt.first || last != tt.last {
			t.Errorf("Between(%d, %d, %d) = %d, %d; want %d, %d", tt.stream, tt.from, tt.to, first, last, tt.first, tt.last)
		}
	}
}

func TestBetweenOverHTTP(t *testing.T) {
	f := &Feed{sent: [][]int64{{10, 20, 30}}}
	for _, tt := range []struct {
		body, want string
		status     int
	}{
		{`[[0,15,100],[0,0,5]]`, "[[2,3],[1,0]]", http.StatusOK},
		{`[[1,0,1]]`, "stream 1: there are 1", http.StatusBadRequest},
		{`{}`, "want a list of [stream, from, to]", http.StatusBadRequest},
	} {
		w := httptest.NewRecorder()
		f.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/between", strings.NewReader(tt.body)))
		if w.Code != tt.status || !strings.HasPrefix(w.Body.String(), tt.want) {
			t.Errorf("POST /between %s = %d %q; want %d %q", tt.body, w.Code, w.Body, tt.status, tt.want)
		}
	}
}

func TestStrideReachesAllAndSpreads(t *testing.T) {
	for _, n := range []int{1, 2, 3, 7, 100, 8000, 19500} {
		got := make([]bool, n)
		stride, low := strideOf(n), 0
		for turn := range n {
			got[turn*stride%n] = true
			if turn < n/10 && turn*stride%n < n/4 {
				low++
			}
		}
		if slices.Contains(got, false) {
			t.Errorf("%d streams: stride %d does not reach all", n, stride)
		}
		if want := n / 40; low < want*9/10 || low > want*11/10+1 {
			t.Errorf("%d streams: of the first tenth of a round %d go to the first quarter of them, want about %d", n, low, want)
		}
	}
}
