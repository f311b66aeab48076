"""The field's file formats: networks in ONNX, questions about them in VNN-LIB."""
