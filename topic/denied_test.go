package topic

import (
	"errors"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"eventstream/internal/testenv"
)

// That the right to read the topic's settings is missing is told from a Kafka that is down.
func TestKeepsDenied(t *testing.T) {
	b, cfg := embedded(t, 1)
	b.cluster.ControlKey(int16(kmsg.DescribeConfigs), func(req kmsg.Request) (kmsg.Response, error, bool) {
		b.cluster.KeepControl()
		resp := req.ResponseKind().(*kmsg.DescribeConfigsResponse)
		for _, asked := range req.(*kmsg.DescribeConfigsRequest).Resources {
			r := kmsg.NewDescribeConfigsResponseResource()
			r.ResourceType, r.ResourceName, r.ErrorCode = asked.ResourceType, asked.ResourceName, kerr.TopicAuthorizationFailed.Code
			resp.Resources = append(resp.Resources, r)
		}
		return resp, nil, true
	})
	c := idleConsumer(t, cfg)
	testenv.Eventually(t, patience, func() error {
		keeps, err := c.Keeps(t.Context())
		if !errors.Is(err, ErrDenied) || keeps != time.Duration(0) {
			return errors.Join(errors.New("not denied"), err)
		}
		return nil
	})
}
