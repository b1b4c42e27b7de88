package store

import "io/fs"

// UseMigrations has p apply the migrations in dir in place of its own.
func (p *Postgres) UseMigrations(dir fs.FS) (err error) {
	p.migrations, err = parseMigrations(dir)
	return err
}
