// Package stats describes samples without assuming how they are distributed:
// quantiles, an interval around the median by the bootstrap, and the empirical
// distribution function. No sample is ever left out.
package stats

import (
	"math"
	"math/rand/v2"
	"slices"
)

// Summary describes a sample.
type Summary struct {
	N      int     `json:"n"`
	Median float64 `json:"median"`
	P90    float64 `json:"p90"`
	P99    float64 `json:"p99"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
	Mean   float64 `json:"mean"`
	// Low and High bound the median in 95 of 100 experiments, by the bootstrap.
	Low  float64 `json:"low"`
	High float64 `json:"high"`
}

// Summarize describes a sample. The same sample always gets the same interval.
func Summarize(sample []float64) Summary {
	if len(sample) == 0 {
		nan := math.NaN()
		return Summary{Median: nan, P90: nan, P99: nan, Min: nan, Max: nan, Mean: nan, Low: nan, High: nan}
	}
	s := slices.Sorted(slices.Values(sample))
	sum := 0.0
	for _, v := range s {
		sum += v
	}
	low, high := Bootstrap(s, 0.95)
	return Summary{
		N: len(s), Median: quantile(s, 0.5), P90: quantile(s, 0.9), P99: quantile(s, 0.99),
		Min: s[0], Max: s[len(s)-1], Mean: sum / float64(len(s)), Low: low, High: high,
	}
}

// Quantile is the value below which the part q of a sample lies, 0 <= q <= 1,
// interpolated between neighbours (Hyndman and Fan 1996, definition 7, which is
// also that of R and NumPy).
func Quantile(sample []float64, q float64) float64 {
	if len(sample) == 0 {
		return math.NaN()
	}
	return quantile(slices.Sorted(slices.Values(sample)), q)
}

func quantile(sorted []float64, q float64) float64 {
	h := q * float64(len(sorted)-1)
	i := int(h)
	if i+1 >= len(sorted) {
		return sorted[len(sorted)-1]
	}
	return sorted[i] + (h-float64(i))*(sorted[i+1]-sorted[i])
}

// resamples is how often Bootstrap draws: enough for the ends of a 95% interval
// not to move in their second digit.
const resamples = 2000

// Bootstrap is an interval that contains the median with the given confidence:
// the percentile method (Efron 1979) over samples drawn with replacement.
func Bootstrap(sample []float64, confidence float64) (low, high float64) {
	if len(sample) == 0 {
		return math.NaN(), math.NaN()
	}
	random := rand.New(rand.NewPCG(1, uint64(len(sample))))
	medians, drawn := make([]float64, resamples), make([]float64, len(sample))
	for i := range medians {
		for j := range drawn {
			drawn[j] = sample[random.IntN(len(sample))]
		}
		slices.Sort(drawn)
		medians[i] = quantile(drawn, 0.5)
	}
	slices.Sort(medians)
	tail := (1 - confidence) / 2
	return quantile(medians, tail), quantile(medians, 1-tail)
}

// A Step is a point where a distribution function rises.
type Step struct{ X, P float64 }

// ECDF is the empirical distribution function of a sample: the part of it that is
// at most X.
func ECDF(sample []float64) []Step {
	s := slices.Sorted(slices.Values(sample))
	var steps []Step
	for i, x := range s {
		if i+1 < len(s) && s[i+1] == x {
			continue
		}
		steps = append(steps, Step{X: x, P: float64(i+1) / float64(len(s))})
	}
	return steps
}

// RankSum is the probability that two samples differ as much as these do, or
// more, though drawn from one distribution: the two-sided test of Mann and
// Whitney (1947), by its normal approximation with correction for ties.
func RankSum(a, b []float64) float64 {
	if len(a) == 0 || len(b) == 0 {
		return math.NaN()
	}
	type item struct {
		v     float64
		first bool
	}
	var all []item
	for _, v := range a {
		all = append(all, item{v, true})
	}
	for _, v := range b {
		all = append(all, item{v, false})
	}
	slices.SortFunc(all, func(x, y item) int {
		switch {
		case x.v < y.v:
			return -1
		case x.v > y.v:
			return 1
		}
		return 0
	})
	n, na, nb := float64(len(all)), float64(len(a)), float64(len(b))
	ranks, ties := 0.0, 0.0
	for i := 0; i < len(all); {
		j := i
		for j < len(all) && all[j].v == all[i].v {
			j++
		}
		rank, t := float64(i+1+j)/2, float64(j-i)
		ties += t*t*t - t
		for ; i < j; i++ {
			if all[i].first {
				ranks += rank
			}
		}
	}
	u := ranks - na*(na+1)/2
	variance := na * nb / 12 * (n + 1 - ties/(n*(n-1)))
	if variance <= 0 {
		return 1
	}
	z := math.Max(0, math.Abs(u-na*nb/2)-0.5) / math.Sqrt(variance)
	return math.Erfc(z / math.Sqrt2)
}
