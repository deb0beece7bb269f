// The reflectance model and the shading of neuropbr_core, for one fragment.
//
// Functions have the names and formulas of materials/ggx.py, materials/split_sum.py, materials/environments.py and
// materials/render.py, which cite the sources. The constants in front of this text are the renderer's own.

precision highp sampler3D;

uniform sampler2D albedoMap;     // sRGB; the texture unit decodes it before it filters
uniform sampler2D roughnessMap;
uniform sampler2D metallicMap;
uniform sampler2D normalMap;     // OpenGL: green up
uniform bvec4 mapOn;             // albedo, roughness, metallic, normal
uniform sampler3D levels;        // the light blurred for each roughness
uniform sampler2D entering;      // the light that enters a dielectric, by its normal
uniform sampler2D brdfTable;     // scale and bias of F0, by cosine and roughness
uniform vec3 eye;
uniform vec3 lamp;
uniform float flash;             // irradiance that the lamp gives a perpendicular surface at distance 1
uniform float roomLight;         // factor of the surroundings
uniform float exposure;          // factor of the radiance that is shown

in vec3 worldPosition;
in vec3 worldNormal;
in vec3 worldTangent;
in vec2 textureCoordinates;
out vec4 fragment;

float distribution(float nDotH, float alpha) {
  float squared = alpha * alpha;
  float denominator = nDotH * nDotH * (squared - 1.0) + 1.0;
  return squared / (PI * denominator * denominator);
}

float visibility(float nDotL, float nDotV, float alpha) {
  float squared = alpha * alpha;
  float masking = nDotL * sqrt(nDotV * nDotV * (1.0 - squared) + squared);
  float shadowing = nDotV * sqrt(nDotL * nDotL * (1.0 - squared) + squared);
  return 0.5 / (masking + shadowing);
}

float schlick(float cosine) {
  float gap = 1.0 - cosine;
  float squared = gap * gap;
  return squared * squared * gap;
}

float diffuseTransmission(float cosine) {
  return 1.0 - schlick(cosine);
}

vec3 brdf(vec3 f0, vec3 diffuseColour, float roughness, vec3 normal, vec3 view, vec3 light) {
  float nDotL = dot(normal, light);
  float nDotV = dot(normal, view);
  if (nDotL <= 0.0 || nDotV <= 0.0) return vec3(0.0);
  nDotL = clamp(nDotL, 1e-4, 1.0);
  nDotV = clamp(nDotV, 1e-4, 1.0);
  vec3 halfway = normalize(view + light);
  float nDotH = clamp(dot(normal, halfway), 0.0, 1.0);
  float vDotH = clamp(dot(view, halfway), 0.0, 1.0);
  float alpha = roughness * roughness;
  float lobe = distribution(nDotH, alpha) * visibility(nDotL, nDotV, alpha);
  vec3 specular = mix(f0, vec3(1.0), schlick(vDotH)) * lobe;
  float coupled = diffuseTransmission(nDotL) * diffuseTransmission(nDotV);
  return specular + diffuseColour * (coupled * (COUPLING * (1.0 - DIELECTRIC_F0) / PI));
}

// Coordinates of a direction in the tables of the surroundings, whose first and last columns repeat.
vec2 gridCoordinates(vec3 direction) {
  float turn = atan(direction.y, direction.x) / (2.0 * PI);
  float column = (turn - floor(turn)) * COLUMNS + 1.0;
  return vec2(column / (COLUMNS + 2.0), acos(clamp(direction.z, -1.0, 1.0)) / PI);
}

vec3 shade(vec3 base, float roughness, float metallic, vec3 normal) {
  vec3 f0 = mix(vec3(DIELECTRIC_F0), base, metallic);
  vec3 diffuseColour = base * (1.0 - metallic);
  roughness = max(roughness, MIN_ROUGHNESS);

  vec3 view = normalize(eye - worldPosition);
  float nDotV = dot(normal, view);
  vec3 toLamp = lamp - worldPosition;
  float squaredDistance = dot(toLamp, toLamp);
  vec3 light = toLamp * inversesqrt(squaredDistance);
  vec3 fromLamp = brdf(f0, diffuseColour, roughness, normal, view, light)
    * (flash * dot(normal, light) / squaredDistance);

  nDotV = clamp(nDotV, 0.0, 1.0);
  vec3 reflected = normalize(2.0 * nDotV * normal - view);
  float leaving = diffuseTransmission(nDotV) * ((1.0 - DIELECTRIC_F0) / PI);
  vec3 diffuse = texture(entering, gridCoordinates(normal)).rgb * diffuseColour * leaving;
  vec2 scaleBias = texture(brdfTable, vec2(nDotV, roughness)).rg;
  float depth = (roughness * (LEVELS - 1.0) + 0.5) / LEVELS;
  vec3 specular = texture(levels, vec3(gridCoordinates(reflected), depth)).rgb * (f0 * scaleBias.x + scaleBias.y);
  return fromLamp + roomLight * (diffuse + specular);
}

vec3 linearToSrgb(vec3 linear) {
  vec3 power = 1.055 * pow(max(linear, 0.0031308), vec3(1.0 / 2.4)) - 0.055;
  return mix(power, linear * 12.92, vec3(lessThanEqual(linear, vec3(0.0031308))));
}

void main() {
  // A map that is off has a neutral value: grey, half rough, no metal, flat.
  vec3 base = mapOn.x ? texture(albedoMap, textureCoordinates).rgb : vec3(0.2140);
  float roughness = mapOn.y ? texture(roughnessMap, textureCoordinates).r : 0.5;
  float metallic = mapOn.z ? texture(metallicMap, textureCoordinates).r : 0.0;
  vec3 local = mapOn.w ? texture(normalMap, textureCoordinates).rgb * 2.0 - 1.0 : vec3(0.0, 0.0, 1.0);
  vec3 outward = normalize(worldNormal);
  vec3 tangent = normalize(worldTangent - outward * dot(outward, worldTangent));
  vec3 bitangent = cross(outward, tangent);
  vec3 normal = normalize(local.x * tangent + local.y * bitangent + local.z * outward);
  fragment = vec4(linearToSrgb(clamp(exposure * shade(base, roughness, metallic, normal), 0.0, 1.0)), 1.0);
}
