package etcd

import (
	"context"
	"log/slog"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// core hands what etcd's client logs to slog, at level debug: it complains of each
// attempt, while who uses the store says once that it is away. What a server would end
// the process for is an error.
type core struct {
	log    *slog.Logger
	fields []zapcore.Field
}

func logger(log *slog.Logger) *zap.Logger { return zap.New(core{log: log}) }

// Logger is a log for etcd's own code, its server's too, as core says.
func Logger(log *slog.Logger) *zap.Logger { return logger(log) }

// Enabled implements zapcore.LevelEnabler. What is debug to the client nobody needs.
func (c core) Enabled(l zapcore.Level) bool {
	return l >= zapcore.DPanicLevel || l > zapcore.DebugLevel && c.log.Enabled(context.Background(), slog.LevelDebug)
}

// With implements zapcore.Core.
func (c core) With(fields []zapcore.Field) zapcore.Core {
	return core{c.log, append(c.fields[:len(c.fields):len(c.fields)], fields...)}
}

// Check implements zapcore.Core.
func (c core) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(e.Level) {
		return ce.AddCore(e, c)
	}
	return ce
}

// Write implements zapcore.Core.
func (c core) Write(e zapcore.Entry, fields []zapcore.Field) error {
	m := zapcore.NewMapObjectEncoder()
	for _, f := range append(c.fields[:len(c.fields):len(c.fields)], fields...) {
		f.AddTo(m)
	}
	level := slog.LevelDebug
	if e.Level >= zapcore.DPanicLevel {
		level = slog.LevelError
	}
	c.log.Log(context.Background(), level, e.Message, "fields", m.Fields)
	return nil
}

// Sync implements zapcore.Core.
func (c core) Sync() error { return nil }
