module chancery.test/lego-e2e

go 1.26.0

require github.com/go-acme/lego/v5 v5.6.0
