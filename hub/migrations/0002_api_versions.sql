-- As the agent last said: the API versions that it was asked about, and whether its cluster serves them (JSON).
ALTER TABLE cluster ADD COLUMN api_versions TEXT NOT NULL DEFAULT '{}';
