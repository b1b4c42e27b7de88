package ops

import "net/http"

// Verdict returns the overall result of all checks: ok, degraded or unavailable.
func Verdict(answers []Answer) (status string, code int) {
	status, code = "ok", http.StatusOK
	for _, a := range answers {
		switch {
		case a.Err == nil:
		case !IsDegraded(a.Err):
			return "unavailable", http.StatusServiceUnavailable
		default:
			status = "degraded"
		}
	}
	return status, code
}
