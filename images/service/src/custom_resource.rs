//! What all our custom resources share: their group, their version, and how kube is told of a kind.

/// The group of every kind.
pub const GROUP: &str = "kubernaut.ai";
pub const VERSION: &str = "v1alpha1";
/// [`GROUP`] and [`VERSION`] as manifests write them.
pub const API_VERSION: &str = "kubernaut.ai/v1alpha1";

/// Makes a struct with a field `metadata: ObjectMeta` the namespaced custom resource of that kind
/// and plural; who calls it has `k8s-openapi` and `kube` among its dependencies.
#[macro_export]
macro_rules! custom_resource {
    ($resource:ty, $kind:expr, $plural:literal) => {
        impl ::kube::Resource for $resource {
            type DynamicType = ();
            type Scope = ::kube::core::NamespaceResourceScope;

            fn kind((): &()) -> ::std::borrow::Cow<'_, str> {
                $kind.into()
            }

            fn group((): &()) -> ::std::borrow::Cow<'_, str> {
                $crate::custom_resource::GROUP.into()
            }

            fn version((): &()) -> ::std::borrow::Cow<'_, str> {
                $crate::custom_resource::VERSION.into()
            }

            fn plural((): &()) -> ::std::borrow::Cow<'_, str> {
                $plural.into()
            }

            fn meta(&self) -> &::k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta {
                &self.metadata
            }

            fn meta_mut(
                &mut self,
            ) -> &mut ::k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta {
                &mut self.metadata
            }
        }
    };
}
