;; A component that imports an interface with a function, under the name of our types.
(component
  (import "stoker:plugin/types@0.1.0" (instance (export "open" (func))))
  (instance $empty)
  (export "stoker:plugin/preprocess@0.1.0" (instance $empty)))
