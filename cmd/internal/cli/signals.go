package cli

import (
	"context"
	"os"
	"os/signal"
	"slices"
	"syscall"
)

// heeded are those of signals that this program was not started to ignore. nohup
// has it ignore SIGHUP; a shell without job control has what runs in the background
// ignore SIGINT and SIGQUIT, which are meant for the program in the foreground.
// POSIX.1-2017 XCU §2.11.
//
// Go's runtime tells of SIGHUP and SIGINT alone and takes the others over. Of those,
// package start knows in programs that begin there. In others one is guessed: shells
// ignore SIGINT and SIGQUIT together.
func heeded(signals ...os.Signal) []os.Signal {
	background := signal.Ignored(syscall.SIGINT)
	if background {
		signal.Ignore(syscall.SIGQUIT)
	}
	return slices.DeleteFunc(signals, func(s os.Signal) bool {
		return signal.Ignored(s) || background && s == syscall.SIGQUIT
	})
}

// Notify is signal.Notify, but for signals that are to be ignored.
func Notify(c chan<- os.Signal, signals ...os.Signal) {
	if signals = heeded(signals...); len(signals) > 0 { // of none, signal.Notify makes all
		signal.Notify(c, signals...)
	}
}

// NotifyContext returns a context that SIGINT, SIGTERM and SIGHUP cancel, unless
// they are to be ignored. A second signal ends the program at once, as it ends any
// other.
func NotifyContext(parent context.Context) (context.Context, context.CancelFunc) {
	signals := heeded(syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	if len(signals) == 0 {
		return context.WithCancel(parent)
	}
	ctx, stop := signal.NotifyContext(parent, signals...)
	context.AfterFunc(ctx, stop)
	return ctx, stop
}
