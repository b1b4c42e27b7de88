package check

import (
	"net/http"
	"testing"
)

// A filter that is gone is not deleted again and again: that held up whoever waits until
// nobody changes filters.
func TestAnswersOfAPI(t *testing.T) {
	for _, tt := range []struct {
		method string
		status int
		body   string
		want   outcome
		fails  bool
	}{
		{http.MethodPost, 201, `{"id":"a"}`, done, false},
		{http.MethodPost, 202, `{"id":"a"}`, waiting, false},
		{http.MethodPost, 201, `{`, unknown, true},
		{http.MethodPut, 404, ``, refused, true},
		{http.MethodDelete, 204, ``, done, false},
		{http.MethodDelete, 404, ``, waiting, false},
		{http.MethodDelete, 503, ``, unknown, false},
		{http.MethodDelete, 400, ``, refused, true},
	} {
		if got, _, err := judgeAnswer(tt.method, tt.status, []byte(tt.body)); got != tt.want || (err != nil) != tt.fails {
			t.Errorf("%s: %d %s: got %d, %v; want %d", tt.method, tt.status, tt.body, got, err, tt.want)
		}
	}
}
