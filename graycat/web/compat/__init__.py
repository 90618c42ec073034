"""The APIs of others, spoken as they are: llama.cpp's, OpenAI's, Anthropic's and the Stable Diffusion WebUI's."""
