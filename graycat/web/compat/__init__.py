"""APIs of other servers, for their clients: llama.cpp's, OpenAI's, Anthropic's and the Stable Diffusion WebUI's."""
