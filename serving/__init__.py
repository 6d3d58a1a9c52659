"""The champion, answering: engine, promotion, deployment, the HTTP service. Imports `training` and below."""
