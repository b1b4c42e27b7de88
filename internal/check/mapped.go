package check

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/twmb/franz-go/pkg/kgo"
)

// mappedSources tells services what events of item.mapped mean.
const mappedSources = `sources:
  - map:
      event_type: {header: kind}
      user_id: {key: true}
      user_tier: customer.tier
      amount: {path: total, as: number}
      items: lines
`

// describe has services know how events are called, if that is not as filters call them.
func (cfg *Config) describe() error {
	if !cfg.Mapped {
		return nil
	}
	file := filepath.Join(cfg.Cluster.Dir, "sources.yaml")
	if err := os.WriteFile(file, []byte(mappedSources), 0o600); err != nil {
		return fmt.Errorf("write sources: %w", err)
	}
	cfg.Cluster.Env = append(cfg.Cluster.Env, "EVENTSTREAM_CONFIG="+file)
	return nil
}

// mapped is an event that means the same as plain, by mappedSources. Members that filters
// would look at without them say something else.
func (i item) mapped() []byte {
	return fmt.Appendf(nil,
		`{"event_id":"%d","event_type":"none","user_id":"nobody","customer":{"tier":%q},"amount":0,"total":"%.2f","country":%q,"lines":[{"sku":"sku-%d"},{"sku":"sku-%d"}]%s}`,
		i.n, i.tier, i.amount, i.country, i.skus[0], i.skus[1], i.more)
}

func (i item) headers() []kgo.RecordHeader {
	return []kgo.RecordHeader{{Key: "kind", Value: []byte(i.kind)}}
}
