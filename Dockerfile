# The HTTP endpoint alone, without TensorFlow, on the CPU:
#   docker build -t cifar-serve .
#   docker run --read-only -p 127.0.0.1:8000:8000 -v "$PWD/data/exports/cnn9:/model:ro" cifar-serve
FROM python:3.12-slim

WORKDIR /app
COPY requirements/serve.txt requirements/
RUN pip install --no-cache-dir --require-hashes -r requirements/serve.txt
COPY pyproject.toml README.md LICENSE ./
COPY cifar_pipeline cifar_pipeline
RUN pip install --no-cache-dir --no-deps . && useradd --no-create-home --uid 10001 serve

USER serve
ENV CIFAR_MODEL=/model/model.onnx PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
EXPOSE 8000
HEALTHCHECK --start-period=10s --interval=30s --timeout=3s \
  CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://localhost:8000/healthz')"]
CMD ["uvicorn", "--factory", "cifar_pipeline.serving.endpoint:from_environment", \
     "--host", "0.0.0.0", "--port", "8000", "--timeout-keep-alive", "5"]
