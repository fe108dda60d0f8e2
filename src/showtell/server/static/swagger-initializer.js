// Start Swagger UI. A separate file, because the Content-Security-Policy forbids inline scripts.

SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  validatorUrl: null, // the default asks a public server
});
