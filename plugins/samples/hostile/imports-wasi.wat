;; It wants to write files.
(module
  (import "wasi_snapshot_preview1" "fd_write" (func (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 4096))
  (func (export "stoker:plugin/preprocess@0.1.0#describe") (result i32)
    unreachable)
  (func (export "stoker:plugin/preprocess@0.1.0#[static]transform.create")
    (param i32 i32) (result i32) unreachable)
  (func (export "stoker:plugin/preprocess@0.1.0#[method]transform.run")
    (param i32 i32 i32 i32 i64) (result i32) unreachable))
