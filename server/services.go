package server

import (
	"fmt"
	"slices"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// named returns the descriptors of Services and of ServiceNames, or a *ConfigError.
func (c Config) named() ([]protoreflect.ServiceDescriptor, error) {
	services := slices.Clone(c.Services)
	for _, name := range c.ServiceNames {
		found, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(name))
		service, ok := found.(protoreflect.ServiceDescriptor)
		if err != nil || !ok {
			return nil, &ConfigError{Field: "ServiceNames", Want: fmt.Sprintf("full names of services whose generated code is linked in (tasksv1connect.TaskServiceName, say), not %q", name)}
		}
		services = append(services, service)
	}
	if len(services) == 0 {
		return nil, &ConfigError{Field: "ServiceNames", Want: "a service to serve, or one in Services"}
	}
	return services, nil
}
