# Sourced: a Python environment with PyTorch, JAX, scikit-learn and onnxruntime, made where it isn't there. $python is its interpreter.
: "${STOKER_VENV_BENCH:=${XDG_CACHE_HOME:-$HOME/.cache}/stoker/venv-bench}"
python=$STOKER_VENV_BENCH/bin/python
if ! "$python" -c 'import jax, onnxruntime, safetensors, sklearn, torch' 2>/dev/null; then
  echo "making $STOKER_VENV_BENCH"
  python3 -m venv "$STOKER_VENV_BENCH"
  "$STOKER_VENV_BENCH/bin/pip" install --quiet torch==2.15.0 jax==0.10.2 safetensors==0.8.0 scikit-learn==1.9.1 \
    onnx==1.23.2 onnxruntime==1.32.0
fi
