package cpuid

import (
	"strings"
	"testing"
)

func TestText(t *testing.T) {
	host := Where{"host", []Leaf{
		{Function: 0, EAX: 1, EBX: 0x756e_6547, ECX: 0x6c65_746e, EDX: 0x4965_6e69},
		{Function: 1, ECX: 1<<5 | 1<<26 | 1<<0, EDX: 1 << 10},
		{Function: 7, Indexed: true, EBX: 1 << 5},
	}}
	kvm := Where{"KVM", []Leaf{
		{Function: 0, EAX: 1, EBX: 0x756e_6547, ECX: 0x6c65_746e, EDX: 0x4965_6e69},
		{Function: 1, ECX: 1<<26 | 1<<31 | 1<<0, EDX: 1 << 10},
	}}
	for _, tt := range []struct {
		places    []Where
		different bool
		want      []string
		not       []string
	}{
		{[]Where{host}, false, []string{`"GenuineIntel"`, "ecx: sse3, vmx, xsave", "edx: bit 10", "0x7, index 0  more features", "ebx: avx2"}, []string{"not in"}},
		{[]Where{host, kvm}, true, []string{"ecx: in host, not in KVM: vmx\n", "ecx: in KVM, not in host: hypervisor\n", "ebx: in host, not in KVM: avx2"}, []string{"Genuine"}},
	} {
		got := Text(tt.places, tt.different)
		for _, want := range tt.want {
			if !strings.Contains(got, want) {
				t.Errorf("%q is missing:\n%s", want, got)
			}
		}
		for _, not := range tt.not {
			if strings.Contains(got, not) {
				t.Errorf("%q is too much:\n%s", not, got)
			}
		}
	}
}

// No register has more than 32 bits.
func TestNames(t *testing.T) {
	for key, names := range featureNames {
		if len(names) > 32 {
			t.Errorf("%#x has %d names", key.function, len(names))
		}
	}
	for _, tt := range []struct {
		key  featureKey
		bit  int
		name string
	}{ // some that are easy to get wrong
		{featureKey{1, 0, ecx}, 31, "hypervisor"}, {featureKey{1, 0, edx}, 28, "ht"}, {featureKey{7, 0, ebx}, 31, "avx512vl"},
		{featureKey{7, 0, ecx}, 16, "la57"}, {featureKey{7, 0, edx}, 29, "arch_capabilities"}, {featureKey{0x8000_0001, 0, edx}, 29, "lm"},
		{featureKey{0x8000_0001, 0, ecx}, 2, "svm"}, {featureKey{0x4000_0001, 0, eax}, 24, "clocksource_stable"},
		{featureKey{0x8000_0008, 0, ebx}, 12, "ibpb"}, {featureKey{0x8000_0021, 0, eax}, 17, "cpuid_user_dis"}, {featureKey{7, 1, eax}, 17, "fred"},
	} {
		if got := featureNames[tt.key][tt.bit]; got != tt.name {
			t.Errorf("%#x bit %d is %q; want %q", tt.key.function, tt.bit, got, tt.name)
		}
	}
}
