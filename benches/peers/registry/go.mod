module example.invalid/orlop/benches/peers/registry

go 1.26.0
