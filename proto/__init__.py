"""The public gRPC interface and the codec between messages and model."""
