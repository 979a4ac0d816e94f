package unikernel

import (
	"slices"
	"testing"
	"time"
)

// BenchmarkStart takes the time from the exec of the monitor to the console's
// "listening", and to the first response, under each monitor. The
// medians are reported.
//
//	go test -run '^$' -bench Start -benchtime 20x ./tests/unikernel
func BenchmarkStart(b *testing.B) {
	for _, m := range monitors {
		b.Run(m.name, func(b *testing.B) {
			addTap(b)
			m.command(b, build(b, "unikernel/build"), 16, tap, ownAddress) // builds what has to be built
			var listens, responses []float64
			for b.Loop() {
				begun := time.Now()
				g := m.start(b, 16, tap, ownAddress)
				g.expect(listening)
				listens = append(listens, time.Since(begun).Seconds()*1e3)
				for reach(service) != nil {
				}
				responses = append(responses, time.Since(begun).Seconds()*1e3)
				b.StopTimer()
				g.kill()
				b.StartTimer()
			}
			b.ReportMetric(median(listens), "ms/listening")
			b.ReportMetric(median(responses), "ms/response")
			b.ReportMetric(0, "ns/op") // with the guest's end in it: of no interest
		})
	}
}

func median(v []float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
}
