"""Training of the embedded model: autoencoder, text encoder, UNet and one LoRA a look."""
