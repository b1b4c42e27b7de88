package cmd

import "testing"

func TestDivideDescriptors(t *testing.T) {
	for _, tt := range []struct{ limit, conns, unadmitted, wantConns, wantUnadmitted int }{
		{0, 19_000, 4096, 19_000, 4096},       // not known
		{1 << 20, 19_000, 4096, 19_000, 4096}, // plenty
		{20_000, 19_000, 4096, 19_000, 936},   // what is left
		{500, 400, 4096, 400, 36},
		{500, 19_000, 4096, 409, 27}, // not as many as asked for
		{1 << 16, 100_000, 4096, 65_216, 256},
		{10, 1, 1, 1, 1},
		{10, 1000, 1000, 1, 1},
	} {
		conns, unadmitted := divide(tt.limit, tt.conns, tt.unadmitted)
		if conns != tt.wantConns || unadmitted != tt.wantUnadmitted {
			t.Errorf("divide(%d, %d, %d) = %d, %d; want %d, %d", tt.limit, tt.conns, tt.unadmitted, conns, unadmitted, tt.wantConns, tt.wantUnadmitted)
		}
		if sum := conns + unadmitted + ownDescriptors; tt.limit > 2*ownDescriptors && sum > tt.limit {
			t.Errorf("divide(%d, %d, %d): %d in all", tt.limit, tt.conns, tt.unadmitted, sum)
		}
	}
}
