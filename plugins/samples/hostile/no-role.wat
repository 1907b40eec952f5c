;; A module that does nothing for us.
(module
  (func (export "main")))
