package stats

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestQuantile(t *testing.T) {
	tests := map[string]struct {
		sample []float64
		q      float64
		want   float64
	}{
		"one":          {[]float64{7}, 0.99, 7},
		"median odd":   {[]float64{3, 1, 2}, 0.5, 2},
		"median even":  {[]float64{4, 1, 3, 2}, 0.5, 2.5},
		"lowest":       {[]float64{3, 1, 2}, 0, 1},
		"highest":      {[]float64{3, 1, 2}, 1, 3},
		"interpolated": {[]float64{0, 10, 20, 30, 40}, 0.9, 36}, // numpy.percentile([0,10,20,30,40], 90)
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := Quantile(tt.sample, tt.q); math.Abs(got-tt.want) > 1e-12 {
				t.Errorf("Quantile(%v, %v) = %v, want %v", tt.sample, tt.q, got, tt.want)
			}
		})
	}
	if got := Quantile(nil, 0.5); !math.IsNaN(got) {
		t.Errorf("Quantile of nothing = %v, want NaN", got)
	}
}

// The exponential distribution is skewed as start times are, and its quantiles
// are known: -ln(1-q).
func TestSummaryOfExponential(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	sample := make([]float64, 100_000)
	for i := range sample {
		sample[i] = random.ExpFloat64()
	}
	for q, got := range map[float64]float64{0.5: Quantile(sample, 0.5), 0.9: Quantile(sample, 0.9), 0.99: Quantile(sample, 0.99)} {
		if want := -math.Log(1 - q); math.Abs(got-want) > 0.03*want {
			t.Errorf("quantile %v = %v, want about %v", q, got, want)
		}
	}
}

// Of many experiments, 95 in 100 have the true median inside their interval.
func TestBootstrapCovers(t *testing.T) {
	const experiments, size = 150, 40
	random := rand.New(rand.NewPCG(5, 6))
	tests := map[string]struct {
		draw   func() float64
		median float64
	}{
		"normal":      {random.NormFloat64, 0},
		"exponential": {random.ExpFloat64, math.Ln2},
		"uniform":     {random.Float64, 0.5},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			covered := 0
			for range experiments {
				sample := make([]float64, size)
				for i := range sample {
					sample[i] = tt.draw()
				}
				if low, high := Bootstrap(sample, 0.95); low <= tt.median && tt.median <= high {
					covered++
				}
			}
			// Three standard deviations of a binomial, or so, around 0.95.
			if part := float64(covered) / experiments; part < 0.89 || part > 0.999 {
				t.Errorf("the interval covered the median in %.0f%% of the experiments, want about 95%%", 100*part)
			}
		})
	}
}

func TestSummaryKeepsOutliers(t *testing.T) {
	s := Summarize([]float64{1, 1, 1, 1, 1000})
	if s.N != 5 || s.Max != 1000 || s.Median != 1 {
		t.Errorf("Summarize = %+v, want n 5, median 1, max 1000", s)
	}
	if again := Summarize([]float64{1000, 1, 1, 1, 1}); !cmp.Equal(s, again) {
		t.Errorf("another order, another summary: %s", cmp.Diff(s, again))
	}
}

func TestECDF(t *testing.T) {
	want := []Step{{1, 0.25}, {2, 0.75}, {5, 1}}
	if diff := cmp.Diff(want, ECDF([]float64{2, 5, 1, 2})); diff != "" {
		t.Error(diff)
	}
}

func TestRankSum(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 8))
	draw := func(shift float64) []float64 {
		s := make([]float64, 30)
		for i := range s {
			s[i] = random.NormFloat64() + shift
		}
		return s
	}
	if p := RankSum(draw(0), draw(3)); p > 1e-6 {
		t.Errorf("three standard deviations apart: p = %v, want nearly 0", p)
	}
	rejected := 0
	for range 400 {
		if RankSum(draw(0), draw(0)) < 0.05 {
			rejected++
		}
	}
	if rejected < 5 || rejected > 40 {
		t.Errorf("equal distributions were told apart in %d of 400 experiments, want about 20", rejected)
	}
	// By hand: the ranks of the first are 1, 2, 3, 4.5 and 6.5, so U = 2, its mean is
	// 12.5, its variance with two ties 22.64, and z = (10.5 - 0.5) / 4.758 = 2.102.
	if p := RankSum([]float64{1, 2, 3, 4, 5}, []float64{4, 5, 6, 7, 8}); math.Abs(p-0.0356) > 0.0001 {
		t.Errorf("p = %v, want 0.0356", p)
	}
}
