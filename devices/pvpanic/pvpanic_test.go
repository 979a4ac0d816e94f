package pvpanic

import (
	"slices"
	"testing"
)

func TestWrite(t *testing.T) {
	tests := []struct {
		name string
		v    uint8
		want []Event
	}{
		{"panic", 1, []Event{Panicked}},
		{"panic with a crash kernel", 2, []Event{CrashLoaded}},
		{"both", 3, []Event{Panicked | CrashLoaded}},
		{"nothing", 0, nil},
		{"an event that is not offered", 4, nil},
		{"and one that is", 0xfd, []Event{Panicked}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got []Event
			New(func(e Event) { got = append(got, e) }).Write(0, []byte{tt.v})
			if !slices.Equal(got, tt.want) {
				t.Errorf("events %v; want %v", got, tt.want)
			}
		})
	}
}

func TestReadSaysWhatIsSupported(t *testing.T) {
	data := []byte{0xff}
	New(func(Event) { t.Error("a read is no event") }).Read(0, data)
	if want := byte(Panicked | CrashLoaded); data[0] != want {
		t.Errorf("reads as %#x; want %#x", data[0], want)
	}
}

func TestString(t *testing.T) {
	for e, want := range map[Event]string{
		Panicked:               "panicked",
		CrashLoaded:            "crash kernel loaded",
		Panicked | CrashLoaded: "panicked, crash kernel loaded",
	} {
		if got := e.String(); got != want {
			t.Errorf("event %d is %q; want %q", uint8(e), got, want)
		}
	}
}
