"""Classify an image with an exported SoftCAM model and draw its evidence map, without PyTorch.

Run it as ``python onnx_without_torch.py MODEL.onnx PHOTO EVIDENCE.png``.
"""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image

model, photo, picture = sys.argv[1:]

session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
header = json.loads(session.get_modelmeta().custom_metadata_map["captum_softcam"])

# Prepare the image: size, range, normalisation, channels first.
height, width = header["input_size"]
image = Image.open(photo).convert("RGB").resize((width, height), Image.Resampling.BILINEAR)
pixels = np.asarray(image, dtype=np.float32) / 255
pixels = (pixels - np.float32(header["mean"])) / np.float32(header["std"])
images = pixels.transpose(2, 0, 1)[np.newaxis]  # (1, 3, H, W)

logits, evidence = session.run(["logits", "evidence"], {"images": images})  # (1, K) and (1, K, h, w)

best = int(logits[0].argmax())
exponentials = np.exp(logits[0] - logits[0].max())  # the shift avoids an overflow
name = header["classes"][best] if header["classes"] else f"class {best}"
print(f"{name}: logit {logits[0, best]:.3f}, probability {exponentials[best] / exponentials.sum():.3f}")

# Draw the evidence for that class at the size of the image: red supports the class, blue counts against it.
grid = Image.fromarray(evidence[0, best]).resize((width, height), Image.Resampling.BILINEAR)
strength = np.asarray(grid) / np.abs(evidence[0, best]).max()
colour = np.where(strength[..., np.newaxis] > 0, [255, 0, 0], [0, 0, 255])
opacity = 0.6 * np.abs(strength)[..., np.newaxis]
grey = np.asarray(image.convert("L"))[..., np.newaxis]
Image.fromarray(((1 - opacity) * grey + opacity * colour).astype(np.uint8)).save(picture)
