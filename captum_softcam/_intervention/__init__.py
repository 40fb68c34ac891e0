"""Run a model with other values at a layer, exactly, and without side effects on the model or on other threads.

The classes of ``captum_softcam.attr`` contain little more than their formula; these modules do the rest. In reading order:

- ``call`` bundles a model with its arguments, and copies them for one example.
- ``view`` creates a private view of the model, with modules of its own that share the tensors, so that nothing is hooked or
  replaced in a model that other threads use.
- ``forward`` observes one forward of a view, and captures the features of a layer. ``replay`` records the outputs of the
  modules before the layer, and runs the model again with other features at the layer.
- ``axes`` follows the dimensions of every tensor through a forward, by the arithmetic of ``dimensions``. ``layout`` derives
  from them whether the output of a layer is a map with channels first or last, or a row of tokens. ``stages`` finds
  the layers with a map, and the one to explain; ``layers`` names layers, and refuses those without a map.
- ``operations`` is the one table of what torch's functions do to the positions of a map.
- ``closed_form`` recognises tails that only act on each position, pool and classify. It computes the scores of all masked
  copies without building them. ``class_token`` does the same for tails that read the positions by attention, with the
  arithmetic of ``token_copies``.
- Otherwise ``masks`` builds masked copies of the features, ``perturbations_per_eval`` at a time, and runs the recorded tail
  on them, an untouched copy first. If the untouched copy does not have the score of its example, the whole model runs on the
  copies, and if that does not help either, on one copy at a time.
- ``masked_inputs`` masks inputs instead of features, for Score-CAM.
- ``targets`` selects the scores that are explained, by Captum's forms of ``target``.
"""
